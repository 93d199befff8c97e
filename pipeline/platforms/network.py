"""Access to the servers of a platform."""

from trainer.errors import WalsError


class AccessError(WalsError):
    """The platform denies access to the user, which a retry does not change."""
