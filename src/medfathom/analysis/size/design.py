"""The slope of architecture effects on a predictor when architectures come in families, or differ in noise.

Model, for each architecture: effect = intercept + slope * predictor + family + architecture. Family and
architecture are random and normal, with unknown variances. The nuisance parameter is the ratio of the two.
Where no family has two members, the nuisance is how much noisier the AUCs of those architectures are
that lie far out on the predictor, which decide the slope (small test sets at the ends of the size range).

For a known nuisance, generalised least squares gives an exact Student t. It is not known, so the fits
at several values are averaged, with the weights of the restricted likelihood (Patterson and Thompson 1971).
Tests from that confidence distribution are right only on average over the nuisance: without a slope, small
designs reject 2 to 9 % at a level of 5 %. A factor therefore widens or narrows it (`calibration.py`). The
factor depends on what the data show of the nuisance, and is chosen by simulation on this very design,
so that the false-positive rate is right at every value. With families, standard errors are robust to
architectures whose effects are noisier than others' (HC2 at the likeliest ratio), and the same simulation
makes up for what that costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import eigh, null_space
from scipy.special import ndtri, stdtr
from scipy.stats import rankdata

from medfathom.analysis.effects import Floats, Ints
from medfathom.analysis.size.calibration import CalibrationFactor, Targets, fit_calibration_factor

RATIOS = np.array([0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0])
"""Family variance over architecture variance: the values averaged over."""

LEAST_INFLATION = 0.25
"""Of the robust over the model variance: residuals that leverage forced to 0 tell nothing."""

NOISIER = np.array([1.0, 2.0, 4.0])
"""Standard deviation of the architecture farthest out over that in the middle: the values averaged over."""

NOISIER_PRIOR = np.array([4.0, 1.0, 1.0]) / 6
"""Even noise is the rule."""

ALLOWED_UNEVEN, INTERVALS = 1.25, (0.05, 0.10)
"""False positives allowed where noise is uneven, over the level: 95 % intervals then cover 92 to 95 % by
themselves, and more with the other method that they are joined with (simulated for 8 to 40 networks)."""

ALLOWED_FAR, VERDICTS = 2.5, (0.01, 0.025)
"""The same at the levels that Holm's method asks for: two tests at .025 then stay near .05 together."""

EVEN_COUNTS = 8.0
"""Weight of even noise among the false-positive rates: what they are there below the level is lost power."""

TRUE_RATIOS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
"""The ratios at which the false-positive rate is made right."""


@dataclass(frozen=True)
class Summary:
    """Fits of effects (…, n) at each of K ratios.

    Attributes:
        estimates: of the slope, shape (…, K).
        errors: their standard errors, shape (…, K).
        weight: of each ratio, shape (…, K); they sum to 1.
        evidence: for family variance, shape (…): the weighted mean ratio on the scale of `_evidence`.
    """

    estimates: Floats
    errors: Floats
    weight: Floats
    evidence: Floats


@dataclass(frozen=True)
class Design:
    """What is known before any AUC is: the predictor, the families, the precision of the effects.

    Attributes:
        weights: shape (K, n), the estimator of the slope at each of K values of the nuisance.
        variance: shape (K,), its variance per unit of architecture variance.
        contrasts: shape (K or 1, n, df), to independent residuals.
        spread: shape (K, df), the variances of these.
        log_determinant: shape (K,), of the residuals' covariance.
        prior: shape (K,), of the values.
        scale: shape (K,), the values on the scale on which they are averaged.
        ratios: shape (K,), family variance over architecture variance.
        residuals: shape (K, n, n), from effects to their residuals, decorrelated at each value; empty where
            the nuisance is the noise itself.
        robust: shape (K, n), what each squared residual adds to the slope's robust variance (HC2); likewise.
        df: degrees of freedom.
        truths: shape (T, n, n), roots of the covariances at which the false-positive rate is made right.
        targets: what that rate may be, and how much each counts: for intervals, and for verdicts where
            that differs.
    """

    weights: Floats
    variance: Floats
    contrasts: Floats
    spread: Floats
    log_determinant: Floats
    prior: Floats
    scale: Floats
    ratios: Floats
    residuals: Floats
    robust: Floats
    df: int
    truths: Floats
    targets: tuple[Targets, ...]

    @classmethod
    def build(cls, X: Floats, families: Ints, noise: Floats) -> Design:
        """The design's matrices.

        Args:
            X: shape (n, p), full rank, the coefficient asked for last.
            families: shape (n,), codes.
            noise: shape (n, n), covariance of the values but for families, up to a factor.
        """
        _, sizes = np.unique(families, return_counts=True)
        if len(sizes) > 1 and sizes.max() > 1:
            return cls._of_families(X, indicators(families), noise, RATIOS, TRUE_RATIOS)
        if X.shape[1] > 1:
            return cls._of_uneven_noise(X, noise)
        return cls._of_families(X, indicators(families), noise, RATIOS[:1], TRUE_RATIOS[:1])

    @classmethod
    def _of_families(
        cls, X: Floats, Z: Floats, noise: Floats, ratios: Floats, truths: tuple[float, ...]
    ) -> Design:
        """The nuisance is the ratio of family to architecture variance; Z (n, F) tells the families."""
        fits = [_generalised(ratio * Z @ Z.T + noise, X) for ratio in ratios]
        robust = [_robust(ratio * Z @ Z.T + noise, X) for ratio in ratios]
        free = null_space(X.T)
        loading, vectors = eigh(free.T @ Z @ Z.T @ free, free.T @ noise @ free)
        spread = 1.0 + ratios[:, None] * np.maximum(loading, 0.0)
        return cls(
            weights=np.array([weights for weights, _ in fits]),
            variance=np.array([variance for _, variance in fits]),
            contrasts=(free @ vectors)[None],
            spread=spread,
            log_determinant=np.log(spread).sum(1),
            prior=np.gradient(_evidence(ratios)) if len(ratios) > 1 else np.ones(1),
            scale=_evidence(ratios),
            ratios=ratios,
            residuals=np.array([residuals for residuals, _ in robust]),
            robust=np.array([squared for _, squared in robust]),
            df=X.shape[0] - X.shape[1],
            truths=np.array([np.linalg.cholesky(ratio * Z @ Z.T + noise) for ratio in truths]),
            targets=(Targets.even(len(truths)),),
        )

    @classmethod
    def _of_uneven_noise(cls, X: Floats, noise: Floats) -> Design:
        """The nuisance is the noise of architectures that lie far out over that of those in the middle."""
        out = _how_far_out(X)
        noises = [np.outer(d, d) * noise for d in (1 + (times - 1) * out for times in NOISIER)]
        fits = [_generalised(one, X) for one in noises]
        free, df = null_space(X.T), X.shape[0] - X.shape[1]
        inner = [free.T @ one @ free for one in noises]
        return cls(
            weights=np.array([weights for weights, _ in fits]),
            variance=np.array([variance for _, variance in fits]),
            contrasts=np.array([free @ np.linalg.cholesky(np.linalg.inv(one)) for one in inner]),
            spread=np.ones((len(noises), df)),
            log_determinant=np.array([np.linalg.slogdet(one)[1] for one in inner]),
            prior=NOISIER_PRIOR,
            scale=np.log(NOISIER),
            ratios=np.zeros(len(noises)),
            residuals=np.empty(0),
            robust=np.empty(0),
            df=df,
            truths=np.array([np.linalg.cholesky(one) for one in noises]),
            targets=tuple(
                Targets(np.where(NOISIER > 1, over, 1.0), np.where(NOISIER > 1, 1.0, EVEN_COUNTS), levels)
                for over, levels in ((ALLOWED_UNEVEN, INTERVALS), (ALLOWED_FAR, VERDICTS))
            ),
        )

    def summary(self, values: Floats) -> Summary:
        """Restricted-likelihood fits of effects (…, n) at every value of the nuisance."""
        squares = np.maximum(self._squares(values), 1e-300)
        log_weight = -0.5 * self.log_determinant - 0.5 * self.df * np.log(squares) + np.log(self.prior)
        weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        model = squares / self.df * self.variance
        inflation = self._inflation(values, weight.argmax(-1), model)[..., None] if self.robust.size else 1.0
        return Summary(values @ self.weights.T, np.sqrt(model * inflation), weight, weight @ self.scale)

    def _squares(self, values: Floats) -> Floats:
        """Weighted sums of squared residuals (…, K)."""
        if len(self.contrasts) == 1:
            result: Floats = (values @ self.contrasts[0]) ** 2 @ (1 / self.spread).T
            return result
        return np.stack([((values @ one) ** 2).sum(-1) for one in self.contrasts], -1)

    def _inflation(self, values: Floats, likeliest: Ints, model: Floats) -> Floats:
        """Robust over model variance of the slope, shape (…), at the likeliest ratio of each study."""
        flat, which = values.reshape(-1, values.shape[-1]), likeliest.reshape(-1)
        given = model.reshape(-1, model.shape[-1])
        found = np.ones(len(flat))
        for k in np.unique(which):
            own = which == k
            robust = (flat[own] @ self.residuals[k].T) ** 2 @ self.robust[k]
            found[own] = np.maximum(robust / given[own, k], LEAST_INFLATION)
        return found.reshape(values.shape[:-1])

    def calibrate(self, draws: int, seed: int) -> tuple[CalibrationFactor, ...]:
        """Simulate this design to give tests their false-positive rate at every value of the nuisance.

        One factor for each of the targets; none for a plain mean, whose robust variance is Student's.

        Args:
            draws: simulated data sets at each value.
            seed: of the simulation.
        """
        n = self.truths.shape[-1]
        if len(self.scale) == 1 and self.df == n - 1:
            return ()
        own = np.random.default_rng(seed).standard_normal((draws, n))
        student = _student_table(self.df)
        scores, evidence = [], []
        for root in self.truths:
            found = self.summary(own @ root.T)
            below = (found.weight * student(-found.estimates / found.errors)).sum(-1)
            scores.append(np.abs(ndtri(np.clip(below, 1e-15, 1 - 1e-15))))
            evidence.append(found.evidence)
        return tuple(
            fit_calibration_factor(np.array(scores), np.array(evidence), one) for one in self.targets
        )


def calibrated_design(
    X: Floats, families: Ints, noise: Floats, *, draws: int, seed: int
) -> tuple[Design, tuple[CalibrationFactor, ...]]:
    """A design (see `Design.build`) and its calibration; remembered, since many outcomes share one design."""
    arrays = (X.astype(float), families.astype(np.int64), noise.astype(float))
    return _remembered(tuple(np.ascontiguousarray(array).tobytes() for array in arrays), draws, seed)


@lru_cache(maxsize=256)
def _remembered(
    arrays: tuple[bytes, ...], draws: int, seed: int
) -> tuple[Design, tuple[CalibrationFactor, ...]]:
    codes = np.frombuffer(arrays[1], dtype=np.int64)
    n = len(codes)
    design = Design.build(
        np.frombuffer(arrays[0]).reshape(n, -1), codes, np.frombuffer(arrays[2]).reshape(n, n)
    )
    return design, design.calibrate(draws, seed)


def _generalised(covariance: Floats, X: Floats) -> tuple[Floats, float]:
    """Weights of the generalised least squares estimate of the last coefficient, and its variance."""
    inverse = np.linalg.inv(covariance)
    information = np.linalg.inv(X.T @ inverse @ X)
    return (information @ X.T @ inverse)[-1], float(information[-1, -1])


def _robust(covariance: Floats, X: Floats) -> tuple[Floats, Floats]:
    """From values to decorrelated residuals (n, n), and what their squares add to the robust variance (n,).

    HC2 (MacKinnon and White 1985): each squared residual over 1 - leverage is an unbiased estimate of its
    variance where variances are equal, and nearly so where they are not.
    """
    values, vectors = eigh(covariance)
    root = (vectors / np.sqrt(values)) @ vectors.T
    design = root @ X
    solve = np.linalg.pinv(design)
    hat = design @ solve
    room = np.maximum(1 - np.diag(hat), 0.0)
    share = np.where(room > 1e-9, solve[-1] ** 2 / np.maximum(room, 1e-9), 0.0)
    return (np.eye(len(X)) - hat) @ root, share


def _evidence(ratios: Floats) -> Floats:
    """The scale on which ratios are averaged and their prior is flat."""
    scale: Floats = np.log1p(2 * ratios)
    return scale


def _how_far_out(X: Floats) -> Floats:
    """0 to 1 for each architecture: the square of its place by distance of the last column from the rest."""
    others = X[:, :-1]
    distance = np.abs(X[:, -1] - others @ np.linalg.lstsq(others, X[:, -1], rcond=None)[0])
    place = rankdata(np.round(distance / distance.max(), 9), method="min") - 1
    result: Floats = (place / max(len(X) - 1, 1)) ** 2
    return result


def indicators(codes: Ints) -> Floats:
    """One column per code, shape (n, codes)."""
    result: Floats = (codes[:, None] == np.unique(codes)[None]).astype(float)
    return result


def _student_table(df: int) -> Callable[[Floats], Floats]:
    """Student's distribution function read off a fine table: fast, and right to 1e-6."""
    nodes = np.linspace(-12.0, 12.0, 8001)
    table = stdtr(df, np.sinh(nodes))

    def read(t: Floats) -> Floats:
        result: Floats = np.interp(np.arcsinh(t), nodes, table)
        return result

    return read
