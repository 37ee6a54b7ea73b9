"""How fast a model is and how much memory it takes, next to a peer in the same run."""

from incontext.bench.report import Row as Row
from incontext.bench.report import format_rows as format_rows
from incontext.bench.runner import Job as Job
from incontext.bench.runner import measure as measure
