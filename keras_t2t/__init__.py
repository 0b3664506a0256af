"""T2T-ViT, the Tokens-to-Token Vision Transformer (Yuan et al., ICCV 2021), for Keras 3."""

from keras_t2t.start import quiet_if_command

with quiet_if_command():
    from keras_t2t import inspection, layers, training
    from keras_t2t.class_names import decode_predictions
    from keras_t2t.exporting import Predictor, export
    from keras_t2t.models.pyramid import feature_pyramid
    from keras_t2t.models.t2t_vit import T2TViT
    from keras_t2t.models.variants import (
        T2TViT7,
        T2TViT10,
        T2TViT12,
        T2TViT14,
        T2TViT14ResNeXt,
        T2TViT14SE,
        T2TViT14Wide,
        T2TViT16Ghost,
        T2TViT19,
        T2TViT24,
        T2TViTDense,
        T2TViTt14,
        T2TViTt19,
        T2TViTt24,
        create,
        list_variants,
    )
    from keras_t2t.preprocessing import Preprocessing, preprocess_input
    from keras_t2t.preprocessing_layer import model_preprocessing
    from keras_t2t.weights.convert import convert
    from keras_t2t.weights.loading import load_checkpoint, published_state_dict

__version__ = "0.1.0"

__all__ = [
    "Predictor",
    "Preprocessing",
    "T2TViT",
    "T2TViT10",
    "T2TViT12",
    "T2TViT14",
    "T2TViT14ResNeXt",
    "T2TViT14SE",
    "T2TViT14Wide",
    "T2TViT16Ghost",
    "T2TViT19",
    "T2TViT24",
    "T2TViT7",
    "T2TViTDense",
    "T2TViTt14",
    "T2TViTt19",
    "T2TViTt24",
    "convert",
    "create",
    "decode_predictions",
    "export",
    "feature_pyramid",
    "inspection",
    "layers",
    "list_variants",
    "load_checkpoint",
    "model_preprocessing",
    "preprocess_input",
    "published_state_dict",
    "training",
]
