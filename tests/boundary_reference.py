"""IoU at boundaries by its definitions, pixel by pixel, and label maps to try it on."""

import numpy as np

IGNORE = 255
CLASSES = 5


def label_map(height, width, labels=(0, 1, 3, IGNORE)):
    """Blocks of three pixels, and single pixels astray."""
    blocks = np.random.choice(labels, (height // 3 + 1, width // 3 + 1)).repeat(3, 0).repeat(3, 1)[:height, :width]
    return np.where(np.random.rand(height, width) < 0.05, np.random.choice(labels, (height, width)), blocks)


def case(height, width):
    """A truth of which class 2 and 4 are absent, and a prediction that errs in a third of the pixels; class 4 is in neither."""
    truth = label_map(height, width)
    prediction = np.where(np.random.rand(height, width) < 0.3, label_map(height, width, (0, 1, 2, 3)), truth)
    prediction[truth == IGNORE] = IGNORE
    return prediction, truth


def pixels(labels):
    return [(row, column) for row in range(labels.shape[0]) for column in range(labels.shape[1])]


def meets_another(labels, row, column, width, at_border):
    """Whether there is another label within ``width`` moves of a king; outside of the image there is one only where that counts."""
    for y in range(row - width, row + width + 1):
        for x in range(column - width, column + width + 1):
            if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]:
                if labels[y, x] != labels[row, column]:
                    return True
            elif at_border:
                return True
    return False


def band(labels, width, at_border=True):
    return {pixel for pixel in pixels(labels) if meets_another(labels, *pixel, width, at_border)}


def slow_boundary_iou(prediction, truth, width):
    ours, theirs = band(prediction, width), band(truth, width)
    counts = np.zeros((2, CLASSES), int)
    for label in range(CLASSES):
        for pixel in pixels(truth):
            first, second = pixel in ours and prediction[pixel] == label, pixel in theirs and truth[pixel] == label
            counts[0, label] += first and second
            counts[1, label] += first or second
    return counts


def slow_iou(prediction, truth, where):
    counts = np.zeros((2, CLASSES), int)
    for label in range(CLASSES):
        for pixel in where:
            if truth[pixel] != IGNORE:
                first, second = prediction[pixel] == label, truth[pixel] == label
                counts[0, label] += first and second
                counts[1, label] += first or second
    return counts


SLOW = {
    'boundary_iou': slow_boundary_iou,
    'predicted_boundary_iou': lambda prediction, truth, width: slow_iou(prediction, truth, band(prediction, width)),
    'near_boundary_iou': lambda prediction, truth, width: slow_iou(prediction, truth, band(truth, width, at_border=False)),
}
