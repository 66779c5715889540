"""The pipeline: a file for each verb, and below them a folder for each subject.

A folder never imports a file that lies here, and folders import only folders further down this list: `reports`,
`maintenance`, `provenance`, `evaluation`, `training`, `ingest`, `services`, `workspace`, `pictures`, `gan`.
"""
