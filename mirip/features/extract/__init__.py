"""From images to rows of features: only the rows that are missing are computed.

extraction    the stage `extract`, and what it calls: which rows are missing, and the features file of all
engine        what an engine is: images that have no row in, rows out
driver        keeps the rows that an engine yields, shows progress, tells of failures
local         the local engine: image files through the backbone, batch by batch
ray           the Ray engine: several GPUs or machines; it starts the job and hands on what comes
ray_job       the job, a process of its own: the only module that uses Ray
explanation   what an extraction would do, without doing it (`mirip cache explain`)
spot_check    some rows extracted again and compared (`mirip cache verify`)
history       what extractions leave behind for people: the last summary, the list of images, rates
"""

from mirip.features.extract.extraction import extract as extract
