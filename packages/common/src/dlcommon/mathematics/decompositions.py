"""QR, eigenvalues and singular values from scratch (Golub & Van Loan, Matrix Computations, 4th edition)."""

import numpy as np
from numpy.linalg import LinAlgError

EPS = np.finfo(np.float64).eps


def householder_qr(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes A = Q R by Householder reflections, each of which clears one column (section 5.2).

    Args:
        matrix: [rows, columns], rows ≥ columns.

    Returns:
        Q [rows, columns] with orthonormal columns, even if A's are dependent, and the upper triangular R
        [columns, columns] with a diagonal ≥ 0, which makes both unique if A's columns are independent.

    Raises:
        ValueError: the matrix is wide.
    """
    r = np.array(matrix, dtype=np.float64)
    rows, columns = r.shape
    if rows < columns:
        raise ValueError(f"{rows} × {columns} is wide; decompose the transpose")
    q = np.eye(rows, columns)
    reflectors = []
    for k in range(columns):
        v = r[k:, k] / (np.abs(r[k:, k]).max() or 1.0)  # squares of tiny numbers would vanish
        # Reflect to −sign(x₀)‖x‖ e₀, whose difference from x has no cancellation.
        v[0] += np.copysign(np.linalg.norm(v), v[0])
        v /= np.linalg.norm(v) or 1.0
        # (I − 2 v vᵀ) R, without forming the matrix.
        r[k:, k:] -= 2 * np.outer(v, v @ r[k:, k:])
        reflectors.append(v)
    # Q is the product of the reflections; from the last to the first, each acts on the lower right block only.
    for k in reversed(range(columns)):
        q[k:, k:] -= 2 * np.outer(reflectors[k], reflectors[k] @ q[k:, k:])
    r = np.triu(r[:columns])
    signs = np.where(np.diag(r) < 0, -1.0, 1.0)
    return q * signs, r * signs[:, None]


def power_iteration(matrix: np.ndarray, start: np.ndarray, steps: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Finds the eigenvalue of largest magnitude and its eigenvector, by repeated multiplication.

    The error of the vector shrinks by |λ₂ / λ₁| per step (section 7.3.1).

    Args:
        matrix: [n, n].
        start: [n], not orthogonal to the eigenvector, which a random vector never is.
        steps: number of multiplications.

    Returns:
        The Rayleigh quotient vᵀAv, the unit vector v [n], and the residual ‖Av − λv‖ before each step [steps].
    """
    vector = start / np.linalg.norm(start)
    residuals = np.empty(steps)
    for step in range(steps):
        image = matrix @ vector
        residuals[step] = np.linalg.norm(image - (vector @ image) * vector)
        vector = image / np.linalg.norm(image)
    return float(vector @ matrix @ vector), vector, residuals


def eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes A = V diag(λ) Vᵀ by the QR algorithm with Wilkinson's shift and deflation (section 8.3).

    Repeats A − μI = QR, A ← RQ + μI = QᵀAQ until the last row is zero beside the diagonal, then continues with
    the block above it. LAPACK makes the matrix tridiagonal first, so that a step costs n² instead of n³.

    Args:
        matrix: [n, n], symmetric.

    Returns:
        Eigenvalues [n], largest first, and the eigenvectors as columns [n, n].

    Raises:
        ValueError: the matrix is not symmetric, or not finite.
        LinAlgError: no convergence in 30 steps per eigenvalue; two or three are usual.
    """
    a = np.array(matrix, dtype=np.float64)
    if not np.isfinite(a).all() or np.abs(a - a.T).max(initial=0.0) > 1e-10 * np.abs(a).max(initial=0.0):
        raise ValueError("the matrix is not symmetric, or not finite")
    vectors = np.eye(len(a))
    size, scale, steps = len(a), np.linalg.norm(a), 0
    while size > 1:
        if np.abs(a[size - 1, : size - 1]).max() <= EPS * scale:
            size -= 1  # deflation: the last diagonal element is an eigenvalue
            continue
        if (steps := steps + 1) > 30 * len(a):
            raise LinAlgError("the QR algorithm did not converge")
        shift = _wilkinson_shift(a[size - 2 : size, size - 2 : size]) * np.eye(size)
        q, r = householder_qr(a[:size, :size] - shift)
        # RQ = Qᵀ(QR)Q is similar to the block, so it has the same eigenvalues.
        a[:size, :size] = r @ q + shift
        vectors[:, :size] = vectors[:, :size] @ q
    values = np.diag(a)
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def _wilkinson_shift(block: np.ndarray) -> float:
    """Returns the eigenvalue of a symmetric 2 × 2 block that is closer to its last element."""
    (first, beside), (_, last) = block
    half = (first - last) / 2
    if half == 0.0 and beside == 0.0:
        return float(last)
    return float(last - beside**2 / (half + np.copysign(np.hypot(half, beside), half)))


def svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes A = U diag(σ) Vᵀ by one-sided Jacobi rotations (section 8.6.3; Hestenes 1958).

    Rotates pairs of columns until all are orthogonal: A V = U diag(σ). Disjoint pairs are rotated at once, in the
    rounds of a tournament. AᵀA is never formed, so that small singular values keep their digits.

    Args:
        matrix: [rows, columns].

    Returns:
        U [rows, rank], σ [rank] largest first, Vᵀ [rank, columns], where rank = min(rows, columns).

    Raises:
        ValueError: the matrix is not finite.
        LinAlgError: no convergence in 60 sweeps; six to ten are usual.
    """
    if not np.isfinite(matrix).all():
        raise ValueError("the matrix holds NaN or infinity")
    if matrix.shape[0] < matrix.shape[1]:
        v, values, ut = svd(matrix.T)
        return ut.T, values, v.T
    rows, columns = matrix.shape
    scale = np.abs(matrix).max(initial=0.0) or 1.0  # squares of huge and of tiny numbers would be lost
    # A's columns and below them V's, as the rows of one array: each rotation turns both.
    turned = np.concatenate([matrix / scale, np.eye(columns)]).T
    tolerance = 10 * EPS * rows**0.5  # cosine of a right angle, up to rounding
    # Below this product of lengths, two columns are rounding errors, and their angle means nothing.
    negligible = (EPS * np.linalg.norm(turned[:, :rows])) ** 2
    for _ in range(60):
        oblique = False
        for i, j in _tournament(len(turned)):
            first, second = turned[i], turned[j]
            a, b = first[:, :rows], second[:, :rows]
            # Squared lengths and scalar products of all pairs of the round, [pairs].
            aa, bb, ab = (np.einsum("pr,pr->p", x, y) for x, y in ((a, a), (b, b), (a, b)))
            turn = np.abs(ab) > tolerance * np.maximum(np.sqrt(aa * bb), negligible)
            oblique |= bool(turn.any())
            # The smaller root of t² + 2ζt − 1 = 0 turns by at most 45°.
            zeta = (bb - aa) / np.where(turn, 2 * ab, 1.0)
            tangent = np.where(turn, np.copysign(1.0, zeta) / (np.abs(zeta) + np.hypot(1.0, zeta)), 0.0)
            # Cosine and sine of the rotations, [pairs, 1].
            c = (1 / np.hypot(1.0, tangent))[:, None]
            s = c * tangent[:, None]
            turned[i], turned[j] = c * first - s * second, s * first + c * second
        if not oblique:  # every pair is orthogonal: a whole sweep rotated nothing
            break
    else:
        raise LinAlgError("the singular value decomposition did not converge")
    order = np.argsort(-np.linalg.norm(turned[:, :rows], axis=1))
    u, r = householder_qr(turned[order, :rows].T)  # normalizes, and fills in directions where columns are zero
    return u, scale * np.diag(r), turned[order, rows:]


def _tournament(players: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lists rounds of disjoint pairs in which each player meets every other once (the circle method)."""
    seats = list(range(players + players % 2))
    rounds = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        pairs = [pair for pair in zip(seats[:half], reversed(seats[half:]), strict=True) if max(pair) < players]
        rounds.append((np.array([i for i, _ in pairs], dtype=int), np.array([j for _, j in pairs], dtype=int)))
        # One seat stays, the others move round the table by one.
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return rounds


def randomized_svd(
    matrix: np.ndarray, rank: int, rng: np.random.Generator, n_oversamples: int = 10, n_iter: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Approximates the leading singular triplets of a large matrix.

    (Halko, Martinsson & Tropp 2011, https://arxiv.org/abs/0909.4061, algorithms 4.4 and 5.1.) Finds an
    orthonormal basis Q of the range by power iteration on a random block, then decomposes the small QᵀA.

    Args:
        matrix: [rows, columns].
        rank: number of triplets.
        rng: of the random block.
        n_oversamples: extra columns of the block, for accuracy.
        n_iter: power iterations, which sharpen the decay of the singular values.

    Returns:
        U [rows, rank], σ [rank], Vᵀ [rank, columns]; as many triplets as the matrix has, if they are fewer.
    """
    width = min(rank + n_oversamples, *matrix.shape)
    q, _ = householder_qr(matrix @ rng.standard_normal((matrix.shape[1], width)))
    # Each pass multiplies by A Aᵀ; orthonormalizing in between keeps small directions from drowning in rounding.
    for _ in range(n_iter):
        q, _ = householder_qr(matrix.T @ q)
        q, _ = householder_qr(matrix @ q)
    u, values, vt = svd(q.T @ matrix)
    return q @ u[:, :rank], values[:rank], vt[:rank]
