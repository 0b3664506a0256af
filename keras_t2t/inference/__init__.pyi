from .evaluate import evaluate as evaluate
from .predict import predict_images as predict_images
from .predictor import Predictor as Predictor
