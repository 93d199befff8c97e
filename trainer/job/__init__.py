"""The stand-alone training job behind ``python -m trainer.task``."""
