from .options import Options
class FinishingStep(Options):
    name: str = "none"
    factor: int = 2
