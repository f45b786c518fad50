"""The overrides that make a run take a second."""

TINY = (
    "logger=none",
    "data.train=300",
    "data.dev=8",
    "data.test=8",
    "data.vocab_size=300",
    "data.max_length=40",
    "data.batch_tokens=256",
    "decoding.beam=2",
    "model.d_model=16",
    "model.d_ff=32",
    "model.max_length=40",  # of a translation: untrained models go on to the limit
    "model.heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "trainer.device=cpu",  # test_cuda.py is for GPUs
    "trainer.max_steps=12",
    "trainer.log_every=4",
    "trainer.eval_every=6",
    "trainer.checkpoint_every=5",
)

TINY_RNN = (
    *(override for override in TINY if not override.startswith("model.")),
    "model=rnnsearch_small",
    "model.max_length=40",
    "model.d_embedding=16",
    "model.d_hidden=16",
)

# A task whose result gets better with every evaluation, and that takes no time; toy.py has it.
TOY = (
    "~task", "+task={_target_: toy.Regression}", "names.task=toy",
    "~data", "+data={_target_: toy.sine, count: 64, noise: 0.1, batch_size: 16}",
    "names.data=sine",
    "~model", "+model={_target_: toy.Net, width: 8, dropout: 0.1}", "names.model=net",
    "~decoding", "norm=rmsnorm", "schedule=constant", "schedule.lr=0.01", "logger=none",
)  # fmt: skip
