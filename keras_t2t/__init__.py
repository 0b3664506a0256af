"""T2T-ViT, the Tokens-to-Token Vision Transformer (Yuan et al., ICCV 2021), for Keras 3."""

import lazy_loader

from keras_t2t import moved, registration

__version__ = "0.2.0"

# What is public stands in `__init__.pyi`, and is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

moved.install()
registration.install()
