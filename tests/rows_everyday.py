"""Functions as users write them: signals, prices, statistics, images, geometry, physics.

Each runs on floats and integers and on nothing, and does what NumPy does, exceptions included.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from table import Table, ramp

ROWS = Table()


def vec(fn):
    """Rows of a function of a line."""
    for dtype, n in (("f8", 12), ("f8", 0), ("i4", 12)):
        ROWS.row(f"{fn.__name__}-{dtype}-{n}", fn, ramp(dtype, n), rel=1e-9)


def plane(fn):
    """Rows of a function of an image or a table."""
    for dtype, shape in (("f8", (6, 5)), ("f8", (0, 5)), ("i4", (6, 5))):
        ROWS.row(f"{fn.__name__}-{dtype}-{shape[0]}", fn, ramp(dtype, *shape), rel=1e-9)


def two(fn):
    """Rows of a function of two lines."""
    for dtype, n in (("f8", 12), ("f8", 0), ("i4", 12)):
        pair = ramp(dtype, n), ramp(dtype, n)[::-1].copy()
        ROWS.row(f"{fn.__name__}-{dtype}-{n}", fn, *pair, rel=1e-9)


# signal
@vec
def ema(x, alpha=0.3):
    n = len(x)
    w = (1 - alpha) ** np.arange(n)[::-1]
    return np.cumsum(x * w) / np.cumsum(w)


@vec
def rms_envelope(x):
    return np.sqrt(sliding_window_view(x**2, 3).mean(axis=-1))


@vec
def zero_crossings(x):
    return np.sum(np.signbit(x[1:]) != np.signbit(x[:-1]))


@vec
def preemphasis(x):
    return np.append(x[0], x[1:] - 0.97 * x[:-1])


@vec
def normalise_peak(x):
    peak = np.max(np.abs(x))
    return x / np.where(peak == 0, 1, peak)


@vec
def hann_window(x):
    return x * np.hanning(len(x))


@vec
def autocorr(x):
    x = x - x.mean()
    return np.correlate(x, x, mode="full")[len(x) - 1 :]


@vec
def spectrum_db(x):
    return 20 * np.log10(np.abs(np.fft.rfft(x)) + 1e-12)


@vec
def upsample(x):
    y = np.zeros(2 * len(x), dtype=x.dtype)
    y[::2] = x
    y[1:-1:2] = (x[:-1] + x[1:]) / 2
    return y


@vec
def quantize(x):
    return np.clip(np.round(x * 127), -128, 127).astype(np.int8)


@vec
def mulaw(x):
    mu = 255
    return np.sign(x) * np.log1p(mu * np.abs(np.clip(x, -1, 1))) / np.log1p(mu)


@vec
def teager(x):
    y = x.copy()
    y[1:-1] = x[1:-1] ** 2 - x[:-2] * x[2:]
    return y


@vec
def goertzel_like(x):
    n = np.arange(len(x))
    w = np.exp(-2j * np.pi * n / max(len(x), 1))
    return np.abs((x * w).sum())


# finance
@vec
def log_returns(p):
    return np.diff(np.log(np.abs(p) + 1))


@vec
def drawdown(p):
    peak = np.maximum.accumulate(p)
    return (p - peak).min(), np.argmin(p - peak)


@vec
def sharpe(r):
    return np.sqrt(252) * r.mean() / (r.std(ddof=1) + 1e-9)


@vec
def compound(r):
    return np.prod(1 + r / 100) - 1


@vec
def rsi(p):
    d = np.diff(p)
    up = np.where(d > 0, d, 0).mean()
    dn = -np.where(d < 0, d, 0).mean()
    return 100 - 100 / (1 + up / (dn + 1e-9))


@vec
def bollinger(p):
    w = sliding_window_view(p, 4)
    m = w.mean(-1)
    s = w.std(-1)
    return m - 2 * s, m, m + 2 * s


@vec
def npv(c):
    return np.sum(c / (1.05 ** np.arange(c.size)))


@vec
def var95(r):
    return -np.percentile(r, 5)


@vec
def cap_weights(w):
    w = np.abs(w) / np.abs(w).sum()
    w = np.minimum(w, 0.2)
    return w / w.sum()


# statistics
@vec
def zscore(x):
    return (x - np.mean(x)) / np.std(x)


@vec
def minmax(x):
    lo, hi = x.min(), x.max()
    return (x - lo) / (hi - lo)


@vec
def mad(x):
    return np.median(np.abs(x - np.median(x)))


@vec
def winsor(x):
    lo, hi = np.quantile(x, [0.1, 0.9])
    return np.clip(x, lo, hi)


@vec
def skew(x):
    d = x - x.mean()
    return (d**3).mean() / (d**2).mean() ** 1.5


@vec
def entropy(x):
    p = np.abs(x) / np.abs(x).sum()
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0))


@vec
def gini(x):
    x = np.sort(np.abs(x))
    n = x.shape[0]
    i = np.arange(1, n + 1)
    return (np.sum((2 * i - n - 1) * x)) / (n * np.sum(x))


@vec
def histogram_counts(x):
    return np.histogram(x, bins=5, range=(-4, 4))[0]


@vec
def softplus(x):
    return np.logaddexp(0, x)


@vec
def rank_desc(x):
    return np.argsort(-x, kind="stable")


@vec
def running_mean(x):
    return np.cumsum(x) / np.arange(1, x.size + 1)


@vec
def fill_nan(x):
    x = np.where(x > 3, np.nan, x)
    return np.nan_to_num(x, nan=np.nanmean(x))


@vec
def clip_inplace(x):
    x[x < 0] = 0
    np.minimum(x, 3, out=x)
    return x


@vec
def one_hot(x):
    k = np.abs(x).astype(int) % 4
    out = np.zeros((k.size, 4))
    out[np.arange(k.size), k] = 1
    return out


@vec
def digitise(x):
    return np.digitize(x, [-1, 0, 1])


@vec
def interp_grid(x):
    return np.interp(x, np.linspace(-4, 4, 9), np.linspace(0, 1, 9) ** 2)


@vec
def poly(x):
    return np.polyval([1, -2, 0.5], x) + np.polynomial.polynomial.polyval(x, [1.0, 2.0])


@vec
def unwrap_phase(x):
    return np.unwrap(x * 2)


@vec
def trapz(x):
    return np.trapezoid(x, dx=0.5)


@vec
def summary(x):
    return {"mean": x.mean(), "n": x.size, "range": np.ptp(x), "first": x[0], "any": (x > 2).any()}


@vec
def parity(x):
    return np.where(x.astype(int) % 2 == 0, True, False)


@vec
def top3(x):
    return np.sort(x)[-3:][::-1]


@vec
def lagged(x):
    return np.stack([np.roll(x, k) for k in range(3)], axis=1)


@vec
def dedupe_flags(x):
    return np.concatenate([[True], x[1:] != x[:-1]])


@vec
def fast_sigmoid(x):
    return 1 / (1 + np.exp(-x))


@vec
def count_runs(x):
    return 1 + np.count_nonzero(np.diff(x > 0))


@vec
def savgol(x):
    return np.convolve(x, np.array([-3, 12, 17, 12, -3]) / 35, mode="valid")


@vec
def geometric(x):
    return np.exp(np.log(np.abs(x) + 1).mean())


@vec
def scalar_math(x):
    return math.sqrt(x.size) * x.sum() / max(len(x), 1)


@vec
def heat1d(u):
    u = u.copy()
    for _ in range(3):
        u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return u


@vec
def leapfrog(x):
    v = np.zeros_like(x)
    for _ in range(3):
        v -= 0.1 * x
        x = x + 0.1 * v
    return x, v, 0.5 * (v**2 + x**2).sum()


# planes
@plane
def grey(img):
    return img @ np.full(img.shape[-1], 1 / 3)


@plane
def sobel(img):
    p = np.pad(img, 1, mode="edge")
    gx = p[:-2, 2:] + 2 * p[1:-1, 2:] + p[2:, 2:] - p[:-2, :-2] - 2 * p[1:-1, :-2] - p[2:, :-2]
    gy = gx.mean() + p[2:, 1:-1] - p[:-2, 1:-1]
    return np.hypot(gx, gy)


@plane
def box_blur(img):
    return sliding_window_view(np.pad(img, 1, mode="reflect"), (3, 3)).mean(axis=(-1, -2))


@plane
def gamma(img):
    return (255 * (np.abs(img) / 255) ** (1 / 2.2)).astype(np.uint8)


@plane
def threshold(img):
    return (img > img.mean()).astype(np.uint8) * 255


@plane
def downsample(img):
    h, w = img.shape[0] // 2 * 2, img.shape[1] // 2 * 2
    return img[:h, :w].reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3))


@plane
def histeq(img):
    hist, edges = np.histogram(img, bins=8, range=(-8, 8))
    cdf = hist.cumsum()
    return np.interp(img.ravel(), edges[:-1], cdf / cdf[-1]).reshape(img.shape)


@plane
def centre_crop(img):
    h, w = img.shape
    return img[h // 4 : h - h // 4, w // 4 : w - w // 4]


@plane
def alpha_blend(img):
    return (img * 0.3 + img[::-1] * 0.7).astype(img.dtype)


@plane
def median_filter(img):
    return np.median(sliding_window_view(img, (2, 2)), axis=(-1, -2))


@plane
def integral_image(img):
    return img.cumsum(0).cumsum(1)


@plane
def standardise(X):
    return (X - X.mean(0)) / (X.std(0) + 1e-6)


@plane
def covariance(X):
    Xc = X - X.mean(axis=0)
    return Xc.T @ Xc / max(X.shape[0] - 1, 1)


@plane
def corr(X):
    return np.corrcoef(X, rowvar=False)


@plane
def softmax_rows(X):
    e = np.exp(X - X.max(axis=1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@plane
def pairwise(X):
    return np.sqrt(((X[:, None] - X[None]) ** 2).sum(-1))


@plane
def nearest(X):
    d = ((X[:, None] - X[None]) ** 2).sum(-1) + np.eye(len(X)) * 1e9
    return d.argmin(1), d.min(1)


@plane
def row_normalise(X):
    n = np.linalg.norm(X, axis=1, keepdims=True)
    return np.divide(X, n, out=np.zeros_like(X, dtype=float), where=n != 0)


@plane
def impute(X):
    X = np.where(X > 8, np.nan, X)
    return np.where(np.isnan(X), np.nanmean(X, axis=0), X)


@plane
def centroid(X):
    return np.average(X, axis=0, weights=np.arange(len(X)) + 1)


@plane
def rotate(X):
    c, s = np.cos(0.3), np.sin(0.3)
    return X[:, :2] @ np.array([[c, -s], [s, c]]).T


@plane
def polygon_area(X):
    x, y = X[:, 0], X[:, 1]
    return 0.5 * np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


@plane
def bbox(X):
    return np.vstack([X.min(0), X.max(0)])


@plane
def game_of_life(X):
    b = (X > 0).astype(int)
    n = sum(
        np.roll(np.roll(b, i, 0), j, 1) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)
    )
    return ((n == 3) | ((b == 1) & (n == 2))).astype(np.uint8)


@plane
def laplace(u):
    v = u.astype(float)
    v[1:-1, 1:-1] = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
    return v, np.abs(v - u).max()


@plane
def argmax_2d(X):
    return np.unravel_index(np.argmax(X), X.shape)


@plane
def sort_rows(X):
    return X[np.argsort(X[:, 0])]


@plane
def lower_mean(X):
    return X[np.tril_indices(min(X.shape))].mean()


@plane
def column_scale(X):
    X /= np.abs(X).max(axis=0) + 1
    return X


@plane
def kron_small(X):
    return np.kron(X[:2, :2], np.ones((2, 2), X.dtype))


@plane
def bits(X):
    return np.packbits(X > 0, axis=1), np.bitwise_xor.reduce(X.astype(int), axis=0)


@plane
def gram_schmidt(X):
    q = []
    for v in X[:3].astype(float):
        for u in q:
            v = v - (v @ u) * u
        q.append(v / (np.sqrt(v @ v) + 1e-9))
    return np.array(q)


@two
def linreg(x, y):
    mx, my = x.mean(), y.mean()
    b = ((x - mx) * (y - my)).sum() / ((x - mx) ** 2).sum()
    return b, my - b * mx


@two
def r2(y, p):
    return 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()


@two
def haversine(a, b):
    la, lb = np.radians(a), np.radians(b)
    return 2 * 6371 * np.arcsin(np.sqrt(np.sin((lb - la) / 2) ** 2))


@two
def kinetic(m, v):
    return np.sum(0.5 * np.abs(m) * v**2), (m * v).sum()


@two
def polar(x, y):
    return np.hypot(x, y), np.arctan2(y, x), np.rad2deg(np.arctan2(y, x)) % 360


@two
def lorentz(v, t):
    g = 1 / np.sqrt(1 - np.clip(np.abs(v) / 20, 0, 0.9) ** 2)
    return g * t, np.divmod(t, 2)


@two
def huber(y, p):
    d = np.abs(y - p)
    return np.where(d < 1, 0.5 * d * d, d - 0.5).mean()


@two
def confusion(a, b):
    a, b = a.astype(int) % 3, b.astype(int) % 3
    m = np.zeros((3, 3), int)
    np.add.at(m, (a, b), 1)
    return m


@two
def group_mean(x, k):
    k = k.astype(int) % 4
    return np.bincount(k, weights=x, minlength=4) / np.maximum(np.bincount(k, minlength=4), 1)


@two
def iou(a, b):
    a, b = a > 0, b > 0
    return (a & b).sum() / max((a | b).sum(), 1)


@two
def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


@two
def ecdf(x, q):
    return np.searchsorted(np.sort(x), q, side="right") / x.size


@two
def blend_inplace(x, y):
    x *= 0.5
    x += 0.5 * y
    return x.max() - y.min()


@two
def cross2(a, b):
    return a[0] * b[1] - a[1] * b[0]


@two
def outer_sum(a, b):
    return np.add.outer(a, b)[::2].sum(axis=0)


@two
def mask_assign(x, y):
    x[y > 0] = y[y > 0] * 2
    return x


@two
def where_chain(x, y):
    return np.select([x > y, x < y], [x - y, y - x], default=-1)


@two
def running_max_gap(x, y):
    return np.maximum.accumulate(np.maximum(x, y)) - np.minimum.accumulate(np.fmin(x, y))


@two
def gcd_ratio(a, b):
    a, b = a.astype(int), b.astype(int)
    g = np.gcd(a, b)
    g = np.where(g == 0, 1, g)
    return a // g, b // g


@two
def swap(x, y):
    x[:], y[:] = y.copy(), x.copy()
