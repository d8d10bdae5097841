"""Trainings made by a Ray cluster: each process that trains is an actor. Read `TrainOnRay` first, then `Crew`."""

from mcdal.ray_training.on_ray import TrainOnRay

__all__ = ["TrainOnRay"]
