"""Examples out of the files of annotation tools and of data sets, one module a format."""
