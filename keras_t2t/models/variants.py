"""The published variants: one table, and the factories made from it."""

import inspect

from keras_t2t.models.t2t_vit import T2TViT

_LITE = {"embed_dim": 256, "num_heads": 4, "mlp_ratio": 2.0}
_14 = {"embed_dim": 384, "depth": 14, "num_heads": 6}
_19 = {"embed_dim": 448, "depth": 19, "num_heads": 7}
_24 = {"embed_dim": 512, "depth": 24, "num_heads": 8}
_T = {"token_mixer": "transformer"}

# Published name: (our factory, arguments of T2TViT where they differ from its defaults).
VARIANTS = {
    "t2t_vit_7": ("T2TViT7", {**_LITE, "depth": 7}),
    "t2t_vit_10": ("T2TViT10", {**_LITE, "depth": 10}),
    "t2t_vit_12": ("T2TViT12", {**_LITE, "depth": 12}),
    "t2t_vit_14": ("T2TViT14", _14),
    "t2t_vit_19": ("T2TViT19", _19),
    "t2t_vit_24": ("T2TViT24", _24),
    "t2t_vit_t_14": ("T2TViTt14", {**_T, **_14}),
    "t2t_vit_t_19": ("T2TViTt19", {**_T, **_19}),
    "t2t_vit_t_24": ("T2TViTt24", {**_T, **_24}),
    "t2t_vit_14_resnext": ("T2TViT14ResNeXt", {**_14, "num_heads": 32}),
    "t2t_vit_14_wide": ("T2TViT14Wide", {"embed_dim": 768, "depth": 4, "num_heads": 12}),
    "t2t_vit_14_se": ("T2TViT14SE", {**_14, "flavor": "squeeze_excite"}),
    "t2t_vit_16_ghost": ("T2TViT16Ghost", {**_14, "depth": 16, "flavor": "ghost"}),
    "t2t_vit_dense": (
        "T2TViTDense",
        {
            "flavor": "dense",
            "embed_dim": 128,
            "depth": (3, 6, 6, 4),
            "growth_rate": 64,
            "num_heads": 8,
            "mlp_ratio": 2.0,
        },
    ),
}


def list_variants():
    """The published names of all variants, as `create` takes them."""
    return list(VARIANTS)


def create(
    variant,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name=None,
    **kwargs,
):
    """Builds a published variant by its published name, in the `keras.applications` convention.

    Args:
        variant: String, one of `list_variants()`.
        include_top: Bool, whether the classification head stands on the class token.
        weights: `None` for a fresh model, or the path of a checkpoint, see `load_checkpoint`.
        input_tensor: Keras tensor to use as the input, in place of `input_shape`.
        input_shape: Tuple `(height, width, channels)`. `None` means `(224, 224, 3)`.
        pooling: Without the head: `None`, `"token"`, `"avg"` or `"max"`, see `T2TViT`.
        classes: Int, number of classes. `None` means those of the weights, else 1000.
        classifier_activation: Activation of the head; `None` gives logits.
        name: String, the model's name. `None` means the variant's.
        **kwargs: Any other argument of `T2TViT`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If the variant is unknown, or as `T2TViT` and `load_checkpoint`.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"`variant` must be one of {', '.join(VARIANTS)}. Received: variant={variant!r}"
        )
    model = T2TViT(
        **{
            **VARIANTS[variant][1],
            "include_top": include_top,
            "input_tensor": input_tensor,
            "input_shape": (224, 224, 3) if input_shape is None else input_shape,
            "pooling": pooling,
            "classes": 1000 if classes is None else classes,
            "classifier_activation": classifier_activation,
            "name": variant if name is None else name,
            **kwargs,
        }
    )
    return model


def _factory(variant):
    """The factory of one variant: `create` with its first argument filled in."""

    def factory(*args, **kwargs):
        return create(variant, *args, **kwargs)

    factory.__name__ = factory.__qualname__ = VARIANTS[variant][0]
    signature = inspect.signature(create)
    factory.__signature__ = signature.replace(
        parameters=[p for p in signature.parameters.values() if p.name != "variant"]
    )
    factory.__doc__ = (
        f"Builds the published variant `{variant}`.\n\n"
        "    The arguments, in the `keras.applications` convention, and every other argument of\n"
        "    `T2TViT` are described at `keras_t2t.create`.\n    "
    )
    return factory


FACTORIES = {VARIANTS[variant][0]: _factory(variant) for variant in VARIANTS}
globals().update(FACTORIES)
