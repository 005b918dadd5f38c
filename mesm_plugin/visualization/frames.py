# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Frames of a video, evenly spread over it, from a video file or from image files."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# A video may differ by so many seconds or such a share from the duration it is drawn with.
TOLERANCE_SECONDS, TOLERANCE_SHARE = 2.0, 0.05


def read_frames(paths: Sequence[str | os.PathLike[str]], duration: float, rows: int, columns: int) -> list[np.ndarray]:
    """Reads as many frames as stand side by side in a strip, each from the middle of its part of the video.

    Args:
        paths: A video file, a folder of images in the order of their names (2 before 10), or image files in order,
            which are taken to be evenly spread over the video.
        duration: Of the video in seconds.
        rows: Height of the strip in pixels; frames are scaled to it.
        columns: Width of the strip in pixels.

    Returns:
        (rows, width, 3) uint8 RGB arrays of one width, cut to the shape of the first; their number is what fits into
        `columns`, at least 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file cannot be decoded, there are no frames, or the video lasts longer or shorter.
    """
    files = [Path(path) for path in paths]
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"frames: {file} does not exist")
    if len(files) == 1 and files[0].is_dir():
        return _from_images(_images_in(files[0]), rows, columns)
    folders = [file for file in files if file.is_dir()]
    if folders:
        raise ValueError(f"frames: {folders[0]} is a folder among several paths, expected one folder or image files")
    if all(file.suffix.lower() in IMAGES for file in files):
        return _from_images(files, rows, columns)
    if len(files) > 1:
        other = next(file for file in files if file.suffix.lower() not in IMAGES)
        raise ValueError(f"frames: {other} is no image ({', '.join(IMAGES)}), expected image files, or one video file")
    return _from_video(files[0], duration, rows, columns)


def _images_in(folder: Path) -> list[Path]:
    images = [file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")]
    if not images:
        raise ValueError(f"frames: the folder {folder} holds no images ({', '.join(IMAGES)})")
    return sorted(images, key=lambda file: [int(part) if part.isdecimal() else part for part in _parts(file.stem)])


def _parts(name: str) -> list[str]:
    # Text stands at even places and numbers at odd ones, so that only like is compared to like.
    return re.split(r"(\d+)", name)


def _from_images(files: Sequence[Path], rows: int, columns: int) -> list[np.ndarray]:
    first = _scaled(_read_image(files[0]), rows)
    count = _count(first, columns)
    chosen = [files[int((k + 0.5) / count * len(files))] for k in range(count)]
    return [_cut(_scaled(_read_image(file), rows), first.shape[1]) for file in chosen]


def _read_image(file: Path) -> np.ndarray:
    encoded = np.fromfile(file, dtype=np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise ValueError(f"frames: {file} ({encoded.size} bytes) cannot be decoded as an image; is it truncated?")
    return image[..., ::-1]


def _from_video(file: Path, duration: float, rows: int, columns: int) -> list[np.ndarray]:
    # OpenCV's and FFmpeg's own complaints would stand between ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    video = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            size = file.stat().st_size
            raise ValueError(f"frames: {file} ({size} bytes) cannot be opened as a video; is it truncated?")
        rate, total = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if not rate > 0 or total < 1:
            raise ValueError(f"frames: {file} does not say how many frames it has, or how long they last")
        length = total / rate
        if abs(length - duration) > max(TOLERANCE_SECONDS, TOLERANCE_SHARE * duration):
            raise ValueError(
                f"frames: {file} lasts {length:.1f} s, but the duration of the video is {duration:.1f} s: give the "
                "video that the features were computed from, or its duration"
            )
        first = _scaled(_frame(video, 0, file, length), rows)
        count = _count(first, columns)
        seconds = (np.arange(count) + 0.5) / count * duration
        numbers = np.minimum((seconds * rate).astype(int), total - 1)
        return [_cut(_scaled(_frame(video, int(n), file, n / rate), rows), first.shape[1]) for n in numbers]
    finally:
        video.release()
        cv2.utils.logging.setLogLevel(level)


def _frame(video: cv2.VideoCapture, number: int, file: Path, second: float) -> np.ndarray:
    video.set(cv2.CAP_PROP_POS_FRAMES, number)
    found, frame = video.read()
    if not found:
        raise ValueError(f"frames: {file} has no frame at {second:.1f} s that can be decoded; is it truncated?")
    return frame[..., ::-1]


def _scaled(frame: np.ndarray, rows: int) -> np.ndarray:
    width = max(1, round(frame.shape[1] * rows / frame.shape[0]))
    return cv2.resize(np.ascontiguousarray(frame), (width, rows), interpolation=cv2.INTER_AREA)


def _count(frame: np.ndarray, columns: int) -> int:
    return max(1, round(columns / frame.shape[1]))


def _cut(frame: np.ndarray, width: int) -> np.ndarray:
    """The middle of a frame that is too wide; one that is too narrow gets black bars."""
    missing = max(0, width - frame.shape[1])
    frame = np.pad(frame, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)))
    begin = (frame.shape[1] - width) // 2
    return frame[:, begin : begin + width]
