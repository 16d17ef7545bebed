"""From images to rows of features: only the rows that are missing are computed.

extraction    the stage `extract`, and what it calls: which rows are missing, and the features file of all
local         the local engine: image files through the backbone, batch by batch, into the store
explanation   what an extraction would do, without doing it (`mirip cache explain`)
spot_check    some rows extracted again and compared (`mirip cache verify`)
history       what extractions leave behind for people: the last summary, the list of images, rates
"""

from mirip.features.extract.extraction import extract as extract
