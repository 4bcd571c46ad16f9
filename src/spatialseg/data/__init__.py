"""Data sets and the batches made of them."""

from spatialseg.data.folders import FolderPairs, VOCLayout
from spatialseg.data.module import SegmentationDataModule
from spatialseg.data.scenes import ProceduralScenes
from spatialseg.data.source import DataError, Sample, Source

__all__ = ["DataError", "FolderPairs", "ProceduralScenes", "Sample", "SegmentationDataModule", "Source", "VOCLayout"]
