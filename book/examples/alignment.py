import torch

from cvsa.methods.alignment import alignment_loss, attention

forest, bird, desert = 2 * torch.eye(3)  # three perpendicular features of length 2
query = torch.stack([forest, bird], 1)[None, :, None, :]  # (1, C=3, H=1, W=2)
key = torch.stack([desert, bird], 1)[None, :, None, :]
mask = torch.tensor([[[[0.0, 1.0]]]])  # (1, 1, H, W): the bird was pasted at the second position


def show(name: str, q: torch.Tensor, k: torch.Tensor, bias: float = 0.0) -> None:
    a = attention(q, k, bias).flatten()
    loss = alignment_loss(q, k, mask, bias=bias)
    print(f"{name:<11} forest {a[0]:.3f}   bird {a[1]:.3f}   loss {loss:.5f}")


show("raw", query, key)
show("normalised", 10 * query / 2, key / 2, bias=-5.0)  # lengths divided out, scale 10, bias -5
