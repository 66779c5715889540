"""The stages as Prefect tasks. They hand each other artifacts, a path and a few numbers, so nothing heavy is carried.

Stages skip what has not changed by their own keys, so Prefect caches nothing.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

import components.evaluate
import components.postprocess
import components.preprocess
import components.register
import components.train

preprocess = task(components.preprocess.preprocess, name="preprocess", cache_policy=NO_CACHE)
train = task(components.train.train, name="train", cache_policy=NO_CACHE)
evaluate = task(components.evaluate.evaluate, name="evaluate", cache_policy=NO_CACHE)
postprocess = task(components.postprocess.postprocess, name="postprocess", cache_policy=NO_CACHE)
register = task(components.register.register, name="register", cache_policy=NO_CACHE)
