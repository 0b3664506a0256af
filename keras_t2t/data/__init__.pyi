from .augment import Augmentation as Augmentation
from .check import check_data as check_data
from .decoding import BadImageError as BadImageError
from .pipeline import evaluation_batches as evaluation_batches
from .pipeline import training_batches as training_batches
from .show import show_batch as show_batch
from .source import Source as Source
from .sources import open_source as open_source
