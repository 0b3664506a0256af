"""Fitting a checkpoint for RGB images to images of another number of channels."""

import numpy as np


def fit_channels(arrays, channels, area):
    """The arrays of a checkpoint for three channels, for another number of channels.

    One channel: the logits are those of the image repeated three times, exactly. A patch of equal
    channels is normalised as each of them is, so the norm's scale and offset and the linear layer
    behind it, summed over the channels, are one linear layer.

    Any other number: the channels take turns at red, green and blue, and the linear layer is scaled
    by `3 / channels`. Where the image is RGB repeated, the logits are those of RGB.

    Args:
        arrays: Dict `{published key: array}` of a checkpoint with a Performer or Transformer.
        channels: Int, the number of channels that is wanted.
        area: Int, rows times columns of the first soft split's kernel.

    Returns:
        A dict, the same but for the first T2T block's first norm and the linear layer behind it.
    """
    prefix = "tokens_to_token.attention1"
    norm_weight, norm_bias = f"{prefix}.norm1.weight", f"{prefix}.norm1.bias"
    linear = f"{prefix}.kqv" if f"{prefix}.kqv.weight" in arrays else f"{prefix}.attn.qkv"
    weight = arrays[f"{linear}.weight"].astype("float64").reshape(-1, 3, area)
    gamma = arrays[norm_weight].astype("float64").reshape(3, area)
    beta = arrays[norm_bias].astype("float64").reshape(3, area)
    if linear.endswith("attn.qkv"):
        # The Transformer divides queries times keys by the root of the patch's size.
        weight[: len(weight) // 3] *= (channels / 3) ** 0.5
    new = {}
    if channels == 1:
        offset = np.einsum("oca,ca->o", weight, beta)
        weight = np.einsum("oca,ca->oa", weight, gamma)
        gamma, beta = np.ones(area), np.zeros(area)
        if f"{linear}.bias" in arrays:
            new[f"{linear}.bias"] = arrays[f"{linear}.bias"] + offset
        else:
            # The offset goes through the norm. A normalised patch sums to zero, so that a column
            # added to all columns meets nothing but the norm's offset, which is one everywhere.
            beta = np.ones(area)
            weight += (offset - weight.sum(axis=1))[:, None] / area
    else:
        turns = np.arange(channels) % 3
        weight, gamma, beta = weight[:, turns] * (3 / channels), gamma[turns], beta[turns]
    new[f"{linear}.weight"] = weight.reshape(len(weight), -1)
    new[norm_weight], new[norm_bias] = gamma.ravel(), beta.ravel()
    return {**arrays, **{key: array.astype(arrays[key].dtype) for key, array in new.items()}}
