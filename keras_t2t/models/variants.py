"""The published variants: one table, and the factories made from it."""

import inspect

import keras

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
    skip_head=False,
    **kwargs,
):
    """Builds a published variant by its published name, in the `keras.applications` convention.

    Weights that are fetched land in Keras' cache folder, are converted there once (which needs
    PyTorch: `pip install keras_t2t[convert]`) and are read from there ever after. Those of another
    image size have their positions resized, bicubically as published; those for RGB go into a model
    for another number of channels as `keras_t2t.weights.channels.fit_channels` tells.

    Args:
        variant: String, one of `list_variants()`.
        include_top: Bool, whether the classification head stands on the class token.
        weights: `None`, the default, for a fresh model: nothing is fetched unasked. The name of
            published weights: `"imagenet"`; for `t2t_vit_14` also `"imagenet384"`; for `t2t_vit_24`
            `"imagenet_token_labeling"`; for `t2t_vit_14` and `t2t_vit_19` `"cifar10"` and
            `"cifar100"`. Or the path of a file: `.pth`, `.pth.tar`, `.safetensors`, `.npz` with
            published keys, or `.weights.h5`, `.keras` of such a model.
        input_tensor: Keras tensor to use as the input, in place of `input_shape`.
        input_shape: Tuple `(height, width, channels)`. `None` means that of the weights, else
            `(224, 224, 3)`.
        pooling: Without the head: `None`, `"token"`, `"avg"` or `"max"`, see `T2TViT`.
        classes: Int, number of classes. `None` means those of the weights, else 1000.
        classifier_activation: Activation of the head; `None` gives logits.
        name: String, the model's name. `None` means the variant's.
        skip_head: Bool, whether the head stays fresh while all else comes from the weights, as for
            another number of classes.
        **kwargs: Any other argument of `T2TViT`. `preprocessing` is by default that of the weights,
            else ImageNet's; a file that does not carry one has that of the published file of this
            name, else ImageNet's. Behind an `input_tensor` that layers have made it is `None`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If the variant is unknown, the weights are not published for it, damaged or do
            not fit, or as `T2TViT`.
        OSError: If the weights cannot be fetched (`DownloadError`) or are not there.
        ImportError: If the file needs a package that is not installed.
    """
    if not isinstance(variant, str) or variant not in VARIANTS:
        raise ValueError(
            f"`variant` must be one of {', '.join(VARIANTS)}. Received: variant={variant!r}"
        )
    arguments = {
        **VARIANTS[variant][1],
        "include_top": include_top,
        "input_tensor": input_tensor,
        "input_shape": input_shape,
        "pooling": pooling,
        "classes": classes,
        "classifier_activation": classifier_activation,
        "name": variant if name is None else name,
        **kwargs,
    }
    if weights is not None:
        # Here, because the weights know the models.
        from keras_t2t.weights.pretrained import build_pretrained, open_weights

        return build_pretrained(open_weights(variant, weights, arguments), arguments, skip_head)
    if skip_head:
        raise ValueError("`skip_head=True` needs weights. Received: weights=None")
    return T2TViT(**with_defaults(arguments, (224, 224, 3), 1000, "imagenet"))


def with_defaults(arguments, input_shape, classes, preprocessing):
    """The arguments of `T2TViT`, with these where `create` was given none."""
    arguments = dict(arguments)
    if arguments["input_shape"] is None:
        arguments["input_shape"] = input_shape
    if arguments["classes"] is None:
        arguments["classes"] = classes
    # What layers have made of the images, only who put them there knows.
    history = getattr(arguments["input_tensor"], "_keras_history", None)
    if history is None or isinstance(history.operation, keras.layers.InputLayer):
        arguments.setdefault("preprocessing", preprocessing)
    return arguments


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
