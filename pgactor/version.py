"""The version of this library; of the wire protocol see `messages.PROTOCOL_VERSION`."""

__version__ = "0.1.0"
