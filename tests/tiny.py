"""The overrides that make a run take a second."""

# What Hydra knows from the command line and compose() does not.
NAMES = (
    "names.norm=test",
    "names.init=test",
    "names.model=test",
    "names.data=test",
)

TINY = (
    "logger=none",
    "data.train=300",
    "data.dev=8",
    "data.test=8",
    "data.vocab_size=300",
    "model.d_model=16",
    "model.d_ff=32",
    "model.heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "trainer.batch_tokens=256",
    "trainer.max_steps=12",
    "trainer.log_every=4",
    "trainer.eval_every=6",
    "trainer.checkpoint_every=5",
    "trainer.test_beam=2",
)

TINY_RNN = (
    *(override for override in TINY if not override.startswith("model.")),
    "model=rnnsearch_small",
    "model.d_embedding=16",
    "model.d_hidden=16",
)
