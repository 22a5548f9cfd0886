"""The papers' second phases: differences from the defaults by paper and body, for `distill --preset paper`. jax-free.

`""` is what there is without `--set paper=...`: tiMe's toy experiment (appendix B), and MBML's nets. What a paper does
not say stands at its default: tiMe's updates, hopper's G_S and xi_S.
"""

from typing import Any

_MBML = {"q_hidden": [1024] * 9, "generator_hidden": [1024] * 7, "perturbation_hidden": [1024] * 8}
_MBML_BODIES = ("ant-dir", "ant-goal", "humanoid-dir", "halfcheetah-vel", "walker-params", "umaze-goal")
_HOPPER = {
    "latent_dim": 8,
    "batch_size": 32,
    "encoder_hidden": [256] * 3,
    "embed_hidden": [16] * 4,
    "embed_dim": 8,
    "predictor_hidden": [4, 4],
    "q_hidden": [128] * 8,
}
_CHEETAH = {
    "latent_dim": 64,
    "batch_size": 64,
    "encoder_hidden": [512] * 7,
    "embed_hidden": [512] * 7,
    "embed_dim": 64,
    "predictor_hidden": [64],
    "q_hidden": [512] * 8,
    "generator_hidden": [750] * 7,
    "perturbation_hidden": [400] * 7,
}

DISTILL: dict[str, Any] = {
    "": {"updates": 50_000, "agents": {"time": {"batch_size": 128}, "mbml": _MBML}},
    "time": {
        "hopper-vel": {"updates": 50_000, "agent": _HOPPER},
        "halfcheetah-vel": {"updates": 50_000, "agent": _CHEETAH},
    },
    # 1,000 epochs of 100 updates, in every family
    "mbml": {body: {"method": "mbml", "updates": 100_000, "agent": _MBML} for body in _MBML_BODIES},
}
