"""The faces of a stream of pictures: found, followed from frame to frame, numbered, smoothed."""

from ferkit.following.follower import DETECT_EVERY_S, MAX_GAP_S, TIME_CONSTANT_S, FaceFollower, TrackedFace

__all__ = ["DETECT_EVERY_S", "MAX_GAP_S", "TIME_CONSTANT_S", "FaceFollower", "TrackedFace"]
