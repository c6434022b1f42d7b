"""JAX's worker: jax_worker.py THREADS (see worker.py)

The input products of all steps are one product before the scan; everything is jitted; training gives its parameters and
optimiser state away (donated buffers) and uses optax's Adam. Ways: the scan as it is or unrolled."""
import functools
import os
import sys

threads = int(sys.argv[1])
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax                                                  # noqa: E402  (reads the flags when it is loaded)
import jax.numpy as jnp                                     # noqa: E402
import optax                                                # noqa: E402

import worker                                               # noqa: E402

adam = optax.adam(1e-4)


def parameters(cell, H):
    keys, width, scale = jax.random.split(jax.random.PRNGKey(0), 3), worker.GATES[cell] * H, H ** -0.5
    return {"W": scale * jax.random.normal(keys[0], (H, width)), "R": scale * jax.random.normal(keys[1], (H, width)),
            "b": jnp.zeros(width), "rb": jnp.zeros(width),
            "O": scale * jax.random.normal(keys[2], (H, worker.CLASSES)), "ob": jnp.zeros(worker.CLASSES)}


def lstm_step(p, state, xw):
    h, c = state
    i, f, g, o = jnp.split(xw + h @ p["R"], 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru_step(p, h, xw):
    xr, xz, xn = jnp.split(xw, 3, -1)
    hr, hz, hn = jnp.split(h @ p["R"] + p["rb"], 3, -1)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    n = jnp.tanh(xn + r * hn)
    h = (1 - z) * n + z * h
    return h, h


def forward(cell, unroll, p, x):
    bias = p["b"] + p["rb"] if cell == "lstm" else p["b"]
    zero = jnp.zeros(x.shape[1:])
    step, state = (lstm_step, (zero, zero)) if cell == "lstm" else (gru_step, zero)
    return jax.lax.scan(functools.partial(step, p), state, x @ p["W"] + bias, unroll=unroll)[1]


def infer(cell, unroll, p, x):
    run = jax.jit(functools.partial(forward, cell, unroll))
    return lambda: run(p, x).block_until_ready()


def train(cell, unroll, p, x, y):
    def loss(p, x):
        return optax.softmax_cross_entropy_with_integer_labels(forward(cell, unroll, p, x) @ p["O"] + p["ob"], y).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(p, state, x):
        gradients, dx = jax.grad(loss, (0, 1))(p, x)
        updates, state = adam.update(gradients, state)
        return optax.apply_updates(p, updates), state, dx
    now = [jax.tree.map(jnp.copy, p), adam.init(p)]         # a copy: the first step gives its buffers away

    def one():
        now[0], now[1], dx = step(now[0], now[1], x)
        jax.block_until_ready((now[0], now[1], dx))
    return one


def stream(cell, H):
    p, x, zero = parameters(cell, H), jnp.ones((1, H)), jnp.zeros((1, H))

    @functools.partial(jax.jit, donate_argnums=(1,))
    def step(p, state, x):
        bias = p["b"] + p["rb"] if cell == "lstm" else p["b"]
        return (lstm_step if cell == "lstm" else gru_step)(p, state, x @ p["W"] + bias)
    now = [(zero, jnp.zeros((1, H))) if cell == "lstm" else zero]

    def one():
        now[0], y = step(p, now[0], x)
        y.block_until_ready()
    return {"jit": one}


def prepare(cell, mode, H, B, T):
    if mode == "stream":
        return stream(cell, H)
    if mode not in ("infer", "train"):
        return None
    p, x = parameters(cell, H), jax.random.normal(jax.random.PRNGKey(1), (T, B, H))
    y = jax.random.randint(jax.random.PRNGKey(2), (T, B), 0, worker.CLASSES)
    make = {"infer": lambda unroll: infer(cell, unroll, p, x), "train": lambda unroll: train(cell, unroll, p, x, y)}[mode]
    return {f"scan{unroll}": make(unroll) for unroll in (1, 4)}


worker.serve("jax", jax.__version__, prepare)
