# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which frames are read, and how files without usable frames are told."""

import cv2
import numpy as np
import pytest

from mesm_plugin.visualization.frames import read_frames

ROWS, COLUMNS = 24, 160


def write_video(path, frames=50, rate=10, codec="MJPG", size=(64, 48)):
    """A video that turns from black to white."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 250 * number // max(frames - 1, 1), dtype=np.uint8))
    writer.release()
    return path


def write_images(folder, names, size=(64, 48)):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), 20 * number, dtype=np.uint8))
    return folder


def brightness(frames):
    return [float(frame.mean()) for frame in frames]


@pytest.mark.parametrize("ending", ["avi", "mp4"])
def test_video(ending, tmp_path):
    path = write_video(tmp_path / f"v.{ending}", codec="MJPG" if ending == "avi" else "mp4v")
    frames = read_frames([path], 5.0, ROWS, COLUMNS)
    assert [frame.shape for frame in frames] == [(24, 32, 3)] * 5
    # The middles of five parts of 50 frames.
    assert brightness(frames) == pytest.approx([250 * number / 49 for number in (5, 15, 25, 35, 45)], abs=8)


def test_colours_are_rgb(tmp_path):
    blue = np.zeros((8, 8, 3), dtype=np.uint8)
    blue[..., 0] = 255
    cv2.imwrite(str(tmp_path / "blue.png"), blue)
    assert read_frames([tmp_path / "blue.png"], 1.0, 8, 8)[0][0, 0].tolist() == [0, 0, 255]


def test_folder_in_the_order_of_numbers(tmp_path):
    folder = write_images(tmp_path / "f", [f"frame_{number}.png" for number in range(1, 11)])
    (folder / "notes.txt").write_text("no image")
    assert brightness(read_frames([folder], 5.0, ROWS, COLUMNS)) == [20.0 * number for number in (1, 3, 5, 7, 9)]


def test_image_files_in_the_given_order(tmp_path):
    folder = write_images(tmp_path / "f", ["a.png", "b.jpg"])
    frames = read_frames([folder / "b.jpg", folder / "a.png"], 5.0, ROWS, 64)
    assert brightness(frames) == pytest.approx([20.0, 0.0], abs=2)


def test_fewer_images_than_fit_are_repeated(tmp_path):
    folder = write_images(tmp_path / "f", ["a.png", "b.png"])
    assert brightness(read_frames([folder], 5.0, ROWS, 128)) == [0.0, 0.0, 20.0, 20.0]


def test_images_of_another_shape_are_cut_to_the_first(tmp_path):
    folder = write_images(tmp_path / "f", ["a.png"])
    write_images(folder, ["b.png"], size=(200, 48))
    write_images(folder, ["c.png"], size=(20, 48))
    frames = read_frames([folder], 5.0, ROWS, 96)
    assert [frame.shape for frame in frames] == [(24, 32, 3)] * 3


def test_a_real_video(shared):
    frames = read_frames([shared / "data" / "samples" / "charades_video.mp4"], 30.7, ROWS, 200)
    assert [frame.shape for frame in frames] == [(24, 43, 3)] * 5
    assert len({frame.tobytes() for frame in frames}) == 5


def test_duration_of_another_video(tmp_path):
    path = write_video(tmp_path / "v.avi")
    assert read_frames([path], 6.5, ROWS, COLUMNS)
    with pytest.raises(ValueError, match=r"v.avi lasts 5.0 s, but the duration of the video is 9.0 s"):
        read_frames([path], 9.0, ROWS, COLUMNS)


def test_truncated_video(tmp_path):
    path = write_video(tmp_path / "v.mp4", codec="mp4v")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"v.mp4 \(1500 bytes\) cannot be opened as a video; is it truncated\?"):
        read_frames([path], 5.0, ROWS, COLUMNS)


def test_video_that_ends_early(tmp_path):
    path = write_video(tmp_path / "v.avi", size=(640, 480))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"v.avi .*(truncated\?|lasts)"):
        read_frames([path], 5.0, ROWS, COLUMNS)


def test_files_without_frames(tmp_path):
    folder = write_images(tmp_path / "f", ["a.png", "b.png"])
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:40])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "nothing.jpg").touch()
    for paths, message in (
        ([tmp_path / "none.mp4"], "none.mp4 does not exist"),
        ([tmp_path / "empty"], "the folder .*empty holds no images"),
        ([tmp_path / "text.mp4"], r"text.mp4 \(5 bytes\) cannot be opened as a video"),
        ([tmp_path / "nothing.jpg"], r"nothing.jpg \(0 bytes\) cannot be decoded as an image"),
        ([folder], r"b.png \(40 bytes\) cannot be decoded as an image"),
        ([folder / "a.png", tmp_path / "text.mp4"], "text.mp4 is no image"),
        ([folder / "a.png", folder], "f is a folder among several paths"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_frames(paths, 5.0, ROWS, COLUMNS)
