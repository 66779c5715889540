"""The stages as Prefect tasks. They hand each other artifacts, a path and a few numbers, so nothing heavy is carried.

Stages skip what has not changed by their own keys, so Prefect caches nothing.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

import components.evaluate
import components.postprocess
import components.preprocess
import components.promote
import components.register
import components.train

preprocess = task(cache_policy=NO_CACHE)(components.preprocess.preprocess)
train = task(cache_policy=NO_CACHE)(components.train.train)
evaluate = task(cache_policy=NO_CACHE)(components.evaluate.evaluate)
postprocess = task(cache_policy=NO_CACHE)(components.postprocess.postprocess)
register = task(cache_policy=NO_CACHE)(components.register.register)
promote = task(cache_policy=NO_CACHE)(components.promote.promote)
