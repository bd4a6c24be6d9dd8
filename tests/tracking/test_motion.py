"""The motion model against the same filter with whole matrices."""

import numpy as np

from torchbank.tracking._motion import Motion


class WholeFilter:
    """One track: 8 x 8 matrices, as DeepSORT writes them."""

    def __init__(self, box):
        self.mean = np.concatenate([measure(box), np.zeros(4)])
        h = self.mean[3]
        deviations = [h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]
        self.covariance = np.diag(np.square(deviations))
        self.project = np.eye(4, 8)

    def predict(self):
        h = self.mean[3]
        move = np.eye(8) + np.eye(8, k=4)
        noise = np.square([h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160])
        self.mean = move @ self.mean
        self.covariance = move @ self.covariance @ move.T + np.diag(noise)

    def innovation(self):
        h = self.mean[3]
        return self.project @ self.covariance @ self.project.T + np.diag(np.square([h / 20, h / 20, 1e-1, h / 20]))

    def correct(self, box):
        gain = self.covariance @ self.project.T @ np.linalg.inv(self.innovation())
        self.mean = self.mean + gain @ (measure(box) - self.mean[:4])
        self.covariance = self.covariance - gain @ self.project @ self.covariance

    def distance(self, box):
        off = measure(box) - self.mean[:4]
        return off @ np.linalg.inv(self.innovation()) @ off


def measure(box):
    x1, y1, x2, y2 = box
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1])


def test_motion__equals_the_filter_with_whole_matrices():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 500, (5, 2))
    boxes = np.concatenate([corner, corner + random.uniform(20, 200, (5, 2))], axis=1)
    motion, whole = Motion(), [WholeFilter(box) for box in boxes]
    motion.append(boxes[:2])
    motion.append(boxes[2:])
    for _ in range(40):
        motion.predict()
        for filter_ in whole:
            filter_.predict()
        boxes = boxes + np.tile(random.normal(0, 4, (5, 2)), 2) + random.normal(0, 0.2, (5, 4)) + 1
        whole_distances = [[f.distance(box) for box in boxes] for f in whole]
        np.testing.assert_allclose(motion.distances(boxes), whole_distances)
        seen = np.flatnonzero(random.random(5) < 0.6)
        motion.correct(seen, boxes[seen])
        for row in seen:
            whole[row].correct(boxes[row])
        np.testing.assert_allclose(motion.position, [f.mean[:4] for f in whole])
        np.testing.assert_allclose(motion.velocity, [f.mean[4:] for f in whole], atol=1e-12)


def test_motion__boxes_and_keep():
    motion = Motion()
    motion.append(np.array([[0.0, 0.0, 10.0, 40.0], [5.0, 5.0, 25.0, 15.0], [1.0, 2.0, 3.0, 4.0]]))
    motion.keep(np.array([False, True, True]))
    np.testing.assert_allclose(motion.boxes, [[5, 5, 25, 15], [1, 2, 3, 4]])
    np.testing.assert_allclose(np.diag(motion.distances(motion.boxes)), 0, atol=1e-12)
