"""The packing that a reader of the paper would write first: full Gram matrix, autograd, Adam, renormalise.

N: rows, D: embedding dimension.
"""

import torch
from torch import Tensor


class Baseline:
    """Adam on the rows for the mean cosine with the nearest row."""

    def __init__(self, x_ND: Tensor, learning_rate: float = 0.01) -> None:
        self.x_ND = x_ND.clone().requires_grad_()
        self.adam = torch.optim.Adam([self.x_ND], learning_rate)
        self.adam.state[self.x_ND] = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(x_ND),
            "exp_avg_sq": torch.zeros_like(x_ND),
        }

    def step(self) -> None:
        self.adam.zero_grad()
        cosine_NN = self.x_ND @ self.x_ND.T
        cosine_NN = cosine_NN - 2 * torch.eye(len(cosine_NN))
        cosine_NN.amax(1).mean().backward()
        self.adam.step()
        with torch.no_grad():
            self.x_ND.div_(self.x_ND.norm(dim=1, keepdim=True))
