"""One subject in a process of its own, so that its peak memory is its own.

It reads one job from its command line, says when it is ready, and then segments once for every
line it reads from stdin. Each answer is a line of JSON on stdout.
"""

import json
import resource
import sys
import time
from typing import Any

from incontext.bench.encoder_subject import OurEncoder
from incontext.bench.sam_subjects import OurSAM, TransformersSAM
from incontext.bench.subjects import Ours, Subject, Transformers
from seggpt.config import ENCODERS
from seggpt.errors import SegGPTError, one_line


def make_subject(job: dict[str, Any]) -> Subject:
    """Build what a job asks for."""
    settings = {name: job[name] for name in ("device", "dtype")}
    if job["task"] == "segment":
        settings["examples"] = job["examples"]
        return Transformers(**settings) if job["peer"] else Ours(job["model"], **settings)
    if job["model"] in ENCODERS:
        return OurEncoder(job["model"], size=job["size"], **settings)
    settings |= {"task": job["task"], "points_per_side": job["points_per_side"]}
    return (TransformersSAM if job["peer"] else OurSAM)(job["model"], **settings)


def peak_mib(subject: Subject) -> float:
    """Return the most memory taken so far: the accelerator's, or that of this process."""
    if used := subject.device_bytes():
        return used / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main() -> int:
    """Serve one job until stdin ends."""
    try:
        subject = make_subject(json.loads(sys.argv[1]))
    except (SegGPTError, ImportError) as error:
        print(json.dumps({"error": one_line(str(error))}), flush=True)
        return 1
    about = ("device", "dtype", "gflop", "matmul_gflops")
    print(json.dumps({name: getattr(subject, name) for name in about}), flush=True)
    for _ in sys.stdin:
        started, worked = time.perf_counter(), time.process_time()
        subject()
        answer = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - worked,
            "peak_mib": peak_mib(subject),
        }
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
