"""Ed25519 (RFC 8032, PureEdDSA) as far as an agent needs it: a public key and a signature, by the formulas of the RFC's reference code in
its section 6. Slow (some ms) and not in constant time, which is enough for a key that lives as long as one process and signs once per
connection."""
import hashlib

P = 2 ** 255 - 19                                           # the field
ORDER = 2 ** 252 + 27742317777372353535851937790883648493   # of the group that the base point makes
D = -121665 * pow(121666, P - 2, P) % P                     # the curve: -x² + y² = 1 + d·x²·y²


def _base_point():
    """The one with y = 4/5 and an even x."""
    y = 4 * pow(5, P - 2, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    x = P - x if x & 1 else x
    return x, y, 1, x * y % P


BASE = _base_point()


def _add(a, b):
    """Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, x·y = T/Z."""
    minus, plus = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = plus - minus, d - c, d + c, plus + minus
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(scalar, point):
    sum_ = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            sum_ = _add(sum_, point)
        point, scalar = _add(point, point), scalar >> 1
    return sum_


def _encoded(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def _expanded(secret):
    """The secret scalar, and the prefix from which each signature's nonce is made."""
    digest = hashlib.sha512(secret).digest()
    return int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254, digest[32:]


def public_key(secret):
    """The 32 bytes that belong to a secret of 32 random bytes."""
    return _encoded(_times(_expanded(secret)[0], BASE))


def sign(secret, message):
    """64 bytes."""
    scalar, prefix = _expanded(secret)
    nonce = _number(prefix, message)
    point = _encoded(_times(nonce, BASE))
    challenge = _number(point, public_key(secret), message)
    return point + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")
