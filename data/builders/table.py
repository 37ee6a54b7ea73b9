"""All data sets that can be prepared, where each is to be had, and who reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from data.builders import annotated, coco_sets, few_shot, isaid, scenes, vessels
from data.builders.contents import Contents


@dataclass(frozen=True)
class DataSet:
    """A data set, or a kind of one's own data.

    Attributes:
        title: What it is, for `--help`.
        read: Reads a folder in the layout of the official download; one's own with `options`.
        home: Where to get it; empty for one's own.
        licence: As its authors state it.
    """

    title: str
    read: Callable[..., Contents]
    home: str = ""
    licence: str = "your own"


_COCO = "https://cocodataset.org/#download"
_COCO_TERMS = "annotations CC BY 4.0; pictures under their own Flickr licences"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012"
_VOC_TERMS = "pictures under Flickr's terms of use"

DATA_SETS: Mapping[str, DataSet] = MappingProxyType(
    {
        "folder": DataSet("pictures with masks, or annotations of any kind", annotated.read_any),
        "coco": DataSet("COCO files of polygons or run lengths", annotated.read_coco_files),
        "yolo": DataSet("YOLO-seg: images/ and labels/", annotated.read_yolo_tree),
        "labelme": DataSet("labelme files", annotated.read_labelme_tree),
        "ade20k": DataSet(
            "ADE20K, 150 classes of scenes",
            scenes.read_ade20k,
            "https://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
            "BSD 3-clause; pictures for research and teaching alone",
        ),
        "coco_instances": DataSet(
            "COCO 2017, 80 kinds of things", coco_sets.read_instances, _COCO, _COCO_TERMS
        ),
        "coco_panoptic": DataSet(
            "COCO 2017, things and stuff", coco_sets.read_panoptic, _COCO, _COCO_TERMS
        ),
        "coco_stuff": DataSet(
            "COCO-Stuff 164k, 171 classes",
            coco_sets.read_stuff,
            "https://github.com/nightrome/cocostuff",
            _COCO_TERMS,
        ),
        "voc_aug": DataSet(
            "PASCAL VOC 2012 with SBD, 20 kinds of things",
            scenes.read_voc_aug,
            f"{_VOC} and http://home.bharathh.info/pubs/codes/SBD/download.html",
            _VOC_TERMS,
        ),
        "cityscapes": DataSet(
            "Cityscapes, 19 classes of streets",
            scenes.read_cityscapes,
            "https://www.cityscapes-dataset.com/downloads (leftImg8bit and gtFine)",
            "research alone",
        ),
        "lip": DataSet(
            "LIP, 19 parts and clothes of persons",
            scenes.read_lip,
            "https://sysu-hcp.net/lip",
            "research alone",
        ),
        "paco": DataSet(
            "PACO-LVIS, parts of 75 kinds of objects",
            coco_sets.read_paco,
            "https://github.com/facebookresearch/paco (with COCO's pictures)",
            "annotations CC BY 4.0; pictures as COCO's",
        ),
        "chase_db1": DataSet(
            "CHASE_DB1, vessels of the retina",
            vessels.read_chase_db1,
            "https://blogs.kingston.ac.uk/retinal/chasedb1",
            "CC BY 4.0",
        ),
        "drive": DataSet(
            "DRIVE, vessels of the retina",
            vessels.read_drive,
            "https://drive.grand-challenge.org",
            "research alone",
        ),
        "hrf": DataSet(
            "HRF, vessels of the retina",
            vessels.read_hrf,
            "https://www5.cs.fau.de/research/data/fundus-images",
            "CC BY 4.0",
        ),
        "stare": DataSet(
            "STARE, vessels of the retina",
            vessels.read_stare,
            "https://cecas.clemson.edu/~ahoover/stare (stare-images and labels-ah)",
            "not stated",
        ),
        "isaid": DataSet(
            "iSAID, 15 kinds of things from above",
            isaid.read_isaid,
            "https://captain-whu.github.io/iSAID (with DOTA's pictures)",
            "research alone",
        ),
        "loveda": DataSet(
            "LoveDA, 6 kinds of land",
            scenes.read_loveda,
            "https://zenodo.org/records/5706578",
            "CC BY-NC-SA 4.0",
        ),
        "fss1000": DataSet(
            "FSS-1000, ten pictures of each of 1,000 classes",
            few_shot.read_fss1000,
            "https://github.com/HKUSTCV/FSS-1000",
            "not stated",
        ),
        "coco20i": DataSet(
            "COCO 2014's val, for the benchmark", coco_sets.read_coco20i, _COCO, _COCO_TERMS
        ),
        "pascal5i": DataSet(
            "PASCAL VOC 2012's val, for the benchmark",
            few_shot.read_pascal5i,
            _VOC,
            _VOC_TERMS,
        ),
        "lvis92i": DataSet(
            "LVIS's val, for the benchmark",
            coco_sets.read_lvis92i,
            "https://www.lvisdataset.org/dataset (with COCO's pictures)",
            "annotations CC BY 4.0; pictures as COCO's",
        ),
        "perseg": DataSet(
            "PerSeg, 40 objects in a few pictures each, for the benchmark",
            few_shot.read_perseg,
            "https://github.com/ZrrSkywalker/Personalize-SAM",
            "not stated",
        ),
    }
)
