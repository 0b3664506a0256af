"""Seeing what a model sees, and what it costs."""

from keras_t2t.inspection.attention_maps import (
    attention_maps,
    attention_rollout,
    class_token_attention,
    on_grid,
)
from keras_t2t.inspection.attention_plots import plot_attention
from keras_t2t.inspection.complexity import Complexity, LayerComplexity, complexity
from keras_t2t.inspection.complexity_plot import plot_complexity
from keras_t2t.inspection.dead_channels import DeadChannels, dead_channels
from keras_t2t.inspection.feature_maps import feature_maps
from keras_t2t.inspection.feature_plots import plot_dead_channels, plot_feature_maps
from keras_t2t.inspection.report import visualize
from keras_t2t.inspection.summary import save_figure, summary_table
from keras_t2t.models.graph import token_grid
from keras_t2t.models.pyramid import feature_pyramid

__all__ = [
    "Complexity",
    "DeadChannels",
    "LayerComplexity",
    "attention_maps",
    "attention_rollout",
    "class_token_attention",
    "complexity",
    "dead_channels",
    "feature_maps",
    "feature_pyramid",
    "on_grid",
    "plot_attention",
    "plot_complexity",
    "plot_dead_channels",
    "plot_feature_maps",
    "save_figure",
    "summary_table",
    "token_grid",
    "visualize",
]
