"""Asking a trained model, whatever file it is in: prediction and evaluation."""
