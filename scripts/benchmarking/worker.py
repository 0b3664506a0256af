"""One case of the benchmark in a process of its own: builds it, then times it whenever asked."""

import json
import os
import resource
import sys
import time

import numpy as np

CLASSES = 1000
# Of the matrices with which the peak is measured: large enough to reach it.
ACCELERATOR_SIDE, CPU_SIDE = 8192, 2048


def main():
    case = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    run, information = prepare(case)
    for _ in range(2):
        run()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        # After a wait the system wakes all threads on one core, and spreads them only then.
        run()
        times, end = [], time.perf_counter() + float(line)
        while not times or time.perf_counter() < end:
            times.append(run())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"seconds": times, "peak_rss": peak, **information()}
        print(json.dumps(answer), file=answers, flush=True)


def prepare(case):
    """A function that runs the case once and returns its seconds; one that tells of the device."""
    if case["runtime"] in ("onnxruntime", "openvino"):
        return _timed(_session(case)), dict
    import keras

    if case["dtype"] != "float32":
        keras.config.set_dtype_policy(f"mixed_{case['dtype']}")
    keras.utils.set_random_seed(0)
    if case["network"] in ("limit", "peak"):
        from benchmarking.products import batch_products, flops, timer

        training = case["mode"] == "train"
        with keras.StatelessScope(initialize_variables=False):
            model = t2t_vit(case)
        products = batch_products(model, case["batch"])
        if case["network"] == "limit":
            return timer(products, training, case["dtype"]), dict
        side = ACCELERATOR_SIDE if _device_memory() else CPU_SIDE
        square = {(1, side, side, side, True): 1}
        counts = {"flops": flops(square, False), "network_flops": flops(products, training)}
        return timer(square, False, case["dtype"]), lambda: counts
    model = vit_small(case) if case["network"] == "vit_small" else t2t_vit(case)
    kind, _, forms = case["network"].partition(":")
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, case["batch"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if kind == "plain":
        model = keras.Model(model.input, model.output)  # 0.1.0 computes other than its graph
    elif kind in ("t2t_vit", "without"):
        model = fused(model, without=forms.split("+"))
    elif kind == "stem":
        model = fused(keras.Model(model.input, model.get_layer("tokens").output))
        labels = random.normal(size=(case["batch"], *model.output_shape[1:])).astype("float32")
        loss = keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile=case["jit"])
    size = (case["batch"], case["image_size"], case["image_size"], 3)
    images = keras.ops.convert_to_tensor(random.normal(size=size).astype("float32"))
    if case["mode"] == "train":
        labels = keras.ops.convert_to_tensor(labels)
        return _timed(lambda: model.train_on_batch(images, labels)), _device_memory
    return _timed(lambda: model.predict_on_batch(images)), _device_memory


def _timed(step):
    def run():
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    return run


def t2t_vit(case):
    """The variant with logits for an output."""
    import keras_t2t

    size = case["image_size"]
    return keras_t2t.create(
        case["variant"], input_shape=(size, size, 3), classifier_activation=None
    )


def fused(model, without=()):
    """The model as `keras_t2t.fuse` gives it, without some forms of the rewrite."""
    import keras_t2t

    if not hasattr(keras_t2t, "fuse"):
        return model  # of 0.1.0, whose models are so from the start
    from keras_t2t.rewrite import FORMS

    return keras_t2t.fuse(model, forms=[form for form in FORMS if form not in without])


def vit_small(case):
    """KerasHub's ViT of the published size S/16."""
    import keras
    from keras_hub.models import ViTBackbone

    shape = (case["image_size"], case["image_size"], 3)
    backbone = ViTBackbone(
        image_shape=shape,
        patch_size=16,
        num_layers=12,
        num_heads=6,
        hidden_dim=384,
        mlp_dim=1536,
    )
    logits = keras.layers.Dense(CLASSES, dtype="float32", name="head")(backbone.output[:, 0])
    return keras.Model(backbone.input, logits)


def _session(case):
    """The network's ONNX file in another runtime, in float32 as it must be asked for."""
    size = (case["batch"], case["image_size"], case["image_size"], 3)
    images = np.random.default_rng(0).normal(size=size).astype("float32")
    if case["runtime"] == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(case["onnx"], providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda: session.run(None, {name: images})
    import openvino

    # The default on processors that have it is bfloat16.
    model = openvino.Core().compile_model(
        case["onnx"],
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
    )
    return lambda: model(images)


def _device_memory():
    """The peak of an accelerator's memory, where the backend tells it."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return {"peak_device": tf.config.experimental.get_memory_info("GPU:0")["peak"]}
    elif backend == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats()
        if statistics:
            return {"peak_device": statistics["peak_bytes_in_use"]}
    else:
        import torch

        if torch.cuda.is_available():
            return {"peak_device": torch.cuda.max_memory_allocated()}
    return {}


if __name__ == "__main__":
    main()
