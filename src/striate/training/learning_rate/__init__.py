"""`lr-find`: the learning rate to train with, by short trainings on copies."""
