"""T2T-ViT as a functional Keras model."""

import functools
import math
from collections.abc import Callable, Sequence

import keras

from keras_t2t.layers import (
    ClassToken,
    Dense,
    DenseEncoderBlock,
    SinusoidPositions,
    SoftSplit,
    T2TBlock,
    TokenPooling,
)
from keras_t2t.layers.composite import split_seed
from keras_t2t.layers.encoder import FLAVORS, drop_path_rates, encoder_blocks
from keras_t2t.limits import MOST_LAYERS, MOST_PIXELS
from keras_t2t.preprocessing import PREPROCESSING, Preprocessing
from keras_t2t.preprocessing_layer import PreprocessedImages
from keras_t2t.validation import one_of, pair, positive_int, rate

TOKEN_MIXERS = ("performer", "transformer", "convolution", "patch")
SOFT_SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
# The published Dense variant takes the rates of its four stages from a line of this many steps.
DENSE_DROP_PATH_STEPS = 12


def T2TViT(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    soft_splits: Sequence[tuple] = SOFT_SPLITS,
    token_mixer: str = "performer",
    token_dim: int = 64,
    embed_dim: int = 384,
    depth: int | tuple[int, ...] = 14,
    num_heads: int = 6,
    mlp_ratio: float = 3.0,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    performer_dropout_rate: float = 0.1,
    flavor: str = "plain",
    growth_rate: int = 64,
    include_top: bool = True,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    input_tensor: keras.KerasTensor | None = None,
    preprocessing: Preprocessing | str | None = None,
    class_names: str | Sequence[str] | None = None,
    seed: int | None = None,
    weights: None = None,
    name: str = "t2t_vit",
) -> keras.Model:
    """Builds a T2T-ViT, a functional `keras.Model`. The defaults are those of T2T-ViT-14.

    It computes what its graph shows, layer by layer. `keras_t2t.fuse` makes a faster model of it.

    The layers of the graph are named `soft_split_0`, `t2t_block_0`, `soft_split_1`, ...,
    `projection`, `class_token`, `positions`, `encoder_block_0`, ..., `norm`, `token_pooling`,
    `head`, so that `model.get_layer("encoder_block_7").output` is at hand.

    Args:
        input_shape: Tuple `(height, width, channels)` of ints. Any size that leaves at least one
            token, any number of channels. Images are normalised before they enter the model.
        soft_splits: Sequence of `(kernel, stride, padding)`, each an int or a pair. A T2T block
            follows every soft split but the last, which is projected to `embed_dim`.
        token_mixer: `"performer"` or `"transformer"`, the attention of the T2T blocks;
            `"convolution"`, strided convolutions in place of soft splits and T2T blocks; `"patch"`,
            the stem of a plain ViT: patches of the product of the strides, without overlap.
        token_dim: Int, channels of the tokens of the T2T blocks.
        embed_dim: Int, channels of the encoder (at its start, for the dense flavour).
        depth: Int, number of encoder blocks. For the dense flavour a tuple, the blocks of each
            stage.
        num_heads: Int, attention heads of the encoder; it must divide `embed_dim`.
        mlp_ratio: Float, hidden units of the encoder's MLPs for each channel.
        qkv_bias: Bool, whether the encoder's queries, keys and values have a bias.
        qk_scale: Float that multiplies queries times keys in the encoder. `None` means
            `head_dim ** -0.5`, with which the published accuracies were obtained.
        dropout_rate: Float in [0, 1), dropout after the positions and in the encoder.
        attention_dropout_rate: Float in [0, 1), dropout of the encoder's attention.
        drop_path_rate: Float in [0, 1), stochastic depth of the last encoder block; it grows in a
            line from 0 at the first.
        performer_dropout_rate: Float in [0, 1), dropout in the Performer's T2T blocks.
        flavor: `"plain"`, `"squeeze_excite"`, `"ghost"` or `"dense"`, the encoder's blocks.
        growth_rate: Int, channels that each block of the dense flavour adds.
        include_top: Bool, whether the classification head stands on the class token.
        pooling: What comes out without the head: `None`, all tokens after the last norm, `(batch,
            1 + patches, embed_dim)`; `"token"`, the class token; `"avg"` or `"max"`, over the patch
            tokens. Ignored where `include_top` is `True`.
        classes: Int, number of classes of the head.
        classifier_activation: Activation of the head; `None` gives logits.
        input_tensor: Keras tensor `(batch, height, width, channels)` to use as the input, in place
            of `input_shape`.
        preprocessing: What images are put through before they enter the model, for
            `model_preprocessing(model)` to tell: a `Preprocessing`, or the name of the published
            weights whose it is, such as `"imagenet"`; fitted to the model's image size and number
            of channels. The model computes nothing of it. `None` tells nothing.
        class_names: Names of the head's classes in order, for predictions and exported files to
            tell: `"imagenet"`, `"cifar10"`, `"cifar100"` or a sequence of strings. `None` tells
            nothing.
        seed: Int or `None`, seed of initial weights, dropout and drop path.
        weights: `None`. Weights belong to an architecture: the factories, such as
            `keras_t2t.T2TViT14`, and `keras_t2t.create` take them.
        name: String, the model's name.

    Returns:
        A `keras.Model` from `(batch, height, width, channels)` to `(batch, classes)`, or as
        `pooling` says. Under a mixed precision policy the head computes in float32.

    Raises:
        ValueError: If an argument is out of range or they do not fit together.

    Source: sections 3.1 to 3.3 of the paper; `models/t2t_vit.py`.
    """
    if weights is not None:
        raise ValueError(
            "`weights` must be None: published weights are taken by the factories, such as "
            "keras_t2t.T2TViT14, and by keras_t2t.create; into a model of your own architecture "
            f"load_weights brings them. Received: weights={weights!r}"
        )
    one_of(token_mixer, "token_mixer", TOKEN_MIXERS)
    one_of(flavor, "flavor", (*FLAVORS, "dense"))
    one_of(pooling, "pooling", (None, "token", "avg", "max"))
    if positive_int(embed_dim, "embed_dim") % positive_int(num_heads, "num_heads"):
        raise ValueError(
            "`embed_dim` must be divisible by `num_heads`. "
            f"Received: embed_dim={embed_dim}, num_heads={num_heads}"
        )
    rate(dropout_rate, "dropout_rate")
    splits = _check_soft_splits(soft_splits)
    if token_mixer == "patch":
        # Patches without overlap, as large as the stride of all soft splits together.
        size = tuple(math.prod(strides[axis] for _, strides, _ in splits) for axis in (0, 1))
        splits = [(size, size, (0, 0))]
    inputs, x = _inputs(input_shape, input_tensor, splits)
    if preprocessing is not None:
        carried = _check_preprocessing(preprocessing).fitted(x.shape[1:])
        x = PreprocessedImages(carried, name="preprocessing")(x)
    stem_seed, encoder_seed, token_seed, dropout_seed, head_seed = split_seed(seed, 5)

    # Tokens-to-Token: images to a grid of tokens with `embed_dim` channels.
    *steps, last = splits
    *step_seeds, projection_seed = split_seed(stem_seed, len(splits))
    for index, (split, step_seed) in enumerate(zip(steps, step_seeds, strict=True)):
        if token_mixer == "convolution":
            x = _convolution(x, token_dim, split, step_seed, f"convolution_{index}")
            continue
        x = SoftSplit(*split, name=f"soft_split_{index}")(x)
        x = T2TBlock(
            token_dim,
            token_mixer,
            dropout_rate=performer_dropout_rate if token_mixer == "performer" else 0.0,
            seed=step_seed,
            name=f"t2t_block_{index}",
        )(x)
    if token_mixer == "convolution":
        x = _convolution(x, embed_dim, last, projection_seed, "projection")
    else:
        x = SoftSplit(*last, name=f"soft_split_{len(steps)}")(x)
        x = _linear(embed_dim, projection_seed, "projection")(x)

    # The grid to a sequence, and the encoder.
    x = keras.layers.Reshape((-1, embed_dim), name="tokens")(x)
    x = ClassToken(seed=token_seed, name="class_token")(x)
    x = SinusoidPositions(name="positions")(x)
    if dropout_rate:
        x = keras.layers.Dropout(dropout_rate, seed=dropout_seed, name="position_dropout")(x)
    block_arguments = {
        "num_heads": num_heads,
        "mlp_ratio": mlp_ratio,
        "qkv_bias": qkv_bias,
        "qk_scale": qk_scale,
        "dropout_rate": dropout_rate,
        "attention_dropout_rate": attention_dropout_rate,
    }
    if flavor == "dense":
        block_arguments["growth_rate"] = growth_rate
        blocks = _dense_encoder(embed_dim, depth, drop_path_rate, encoder_seed, block_arguments)
    else:
        block_arguments["flavor"] = flavor
        blocks = encoder_blocks(
            depth, drop_path_rate, encoder_seed, "encoder_block", **block_arguments
        )
    for block in blocks:
        x = block(x)
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")(x)

    if include_top:
        x = TokenPooling("token", name="token_pooling")(x)
        # Logits and probabilities of half precision would cost accuracy and save nothing.
        float32 = keras.config.dtype_policy().variable_dtype
        activation, classes = classifier_activation, positive_int(classes, "classes")
        head = functools.partial(Dense, class_names=class_names)
        x = _linear(classes, head_seed, "head", head, activation=activation, dtype=float32)(x)
    elif pooling is not None:
        x = TokenPooling(pooling, name="token_pooling")(x)
    return keras.Model(inputs, x, name=name)


def _dense_encoder(channels, depth, drop_path_rate, seed, block_arguments):
    """The stages of the dense flavour, with a transition that halves the channels between them."""
    if not isinstance(depth, (tuple, list)) or not 0 < len(depth) <= DENSE_DROP_PATH_STEPS:
        raise ValueError(
            "`depth` of the dense flavour must be a tuple, the blocks of each of at most "
            f"{DENSE_DROP_PATH_STEPS} stages. Received: depth={depth!r}"
        )
    depth = [positive_int(blocks, "depth", MOST_LAYERS) for blocks in depth]
    rates = drop_path_rates(rate(drop_path_rate, "drop_path_rate"), DENSE_DROP_PATH_STEPS)
    seeds = iter(split_seed(seed, sum(depth) + len(depth)))
    layers = []  # Blocks and transitions are counted together, as in the published keys.
    for stage, blocks in enumerate(depth):
        if stage:
            channels //= 2
            name = f"transition_{len(layers)}"
            layers.append(_linear(channels, next(seeds), name, activation="gelu"))
        for _ in range(blocks):
            layers.append(
                DenseEncoderBlock(
                    drop_path_rate=rates[stage],
                    seed=next(seeds),
                    name=f"encoder_block_{len(layers)}",
                    **block_arguments,
                )
            )
            channels += layers[-1].growth_rate
    return layers


def _convolution(x, filters, split, seed, name):
    kernel, strides, padding = split
    x = keras.layers.ZeroPadding2D(padding, name=f"{name}_padding")(x)
    # PyTorch's default for a convolution, which the published code leaves it at.
    initializer = keras.initializers.VarianceScaling(1 / 3, distribution="uniform", seed=seed)
    return keras.layers.Conv2D(filters, kernel, strides, kernel_initializer=initializer, name=name)(
        x
    )


def _linear(units, seed, name, kind=keras.layers.Dense, **kwargs):
    initializer = keras.initializers.RandomNormal(stddev=0.02, seed=seed)
    return kind(units, kernel_initializer=initializer, name=name, **kwargs)


def _check_soft_splits(soft_splits):
    """The soft splits as `((kernel, kernel), (stride, stride), (padding, padding))` each."""
    try:
        splits = [(kernel, stride, padding) for kernel, stride, padding in soft_splits]
    except (TypeError, ValueError):
        splits = []
    if not splits:
        raise ValueError(
            "`soft_splits` must be a sequence of (kernel, stride, padding), at least one. "
            f"Received: soft_splits={soft_splits!r}"
        )
    parts = (("kernel", 1), ("stride", 1), ("padding", 0))
    return [
        tuple(
            pair(value, f"soft_splits[{index}] {part}", minimum)
            for value, (part, minimum) in zip(split, parts, strict=True)
        )
        for index, split in enumerate(splits)
    ]


def _check_preprocessing(preprocessing):
    """The `Preprocessing`, which may be named by published weights."""
    if isinstance(preprocessing, str):
        return PREPROCESSING[one_of(preprocessing, "preprocessing", tuple(PREPROCESSING))]
    if isinstance(preprocessing, Preprocessing):
        return preprocessing
    raise ValueError(
        "`preprocessing` must be None, a keras_t2t.Preprocessing or the name of published "
        f"weights. Received: preprocessing={preprocessing!r}"
    )


def _inputs(input_shape, input_tensor, splits):
    """The model's inputs, and the image tensor, which must leave at least one token."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "T2T-ViT takes images as (height, width, channels). Call "
            "keras.config.set_image_data_format('channels_last'). "
            f"Received: image_data_format={keras.config.image_data_format()!r}"
        )
    argument = "input_shape"
    if input_tensor is not None:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise ValueError(
                "`input_tensor` must be a Keras tensor, the output of keras.Input or of a layer. "
                f"Received: {type(input_tensor).__name__}"
            )
        argument, input_shape = "input_tensor.shape[1:]", tuple(input_tensor.shape)[1:]
    try:
        height, width, channels = (positive_int(size, argument) for size in input_shape)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{argument}` must be (height, width, channels), three positive ints: the positions "
            "belong to one image size. For other sizes build a model for each and load the same "
            f"weights. Received: {argument}={input_shape!r}"
        ) from None
    if height in (1, 3) and channels > 4 and width > 4:
        raise ValueError(
            f"`{argument}` must be (height, width, channels), channels last, perhaps "
            f"{(width, channels, height)}. Received: {argument}={(height, width, channels)}"
        )
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"`{argument}` must be of at most {MOST_PIXELS} pixels. "
            f"Received: {argument}={(height, width, channels)}"
        )
    grid = (None, height, width, channels)
    try:
        for split in splits:
            grid = SoftSplit(*split).compute_output_shape(grid)
    except ValueError:
        raise ValueError(
            f"`{argument}` is too small: the soft splits {splits} (kernel, stride, padding) "
            "leave no token. Use larger images (height, width, channels) or smaller strides. "
            f"Received: {argument}={(height, width, channels)}"
        ) from None
    if input_tensor is not None:
        return keras.utils.get_source_inputs(input_tensor), input_tensor
    images = keras.Input((height, width, channels), name="images")
    return images, images
