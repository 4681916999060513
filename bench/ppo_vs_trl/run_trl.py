"""TRL's side: its PPOTrainer with the settings that make it fastest and leave the task the same."""

import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    get_constant_schedule,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer
from turns import Turns, read_settings


class TakeTurns(TrainerCallback):
    def __init__(self, turns, policy):
        self.turns = turns
        self.policy = policy

    def on_train_begin(self, args, state, control, **kwargs):
        self.turns.begin()

    def on_step_end(self, args, state, control, **kwargs):
        self.turns.end_iteration(self.policy.save_pretrained)


def main() -> None:
    settings, out = read_settings(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(settings["num_threads"])
    tokenizer = AutoTokenizer.from_pretrained(settings["sft"], padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(settings["sft"], dtype=torch.float32) for _ in range(2))
    assert policy.generation_config.use_cache  # else generation takes several times as long
    reward_model = AutoModelForSequenceClassification.from_pretrained(settings["reward"], num_labels=1)
    # As ours: the SFT model's trunk, and values that start at zero.
    value_model = AutoModelForSequenceClassification.from_pretrained(settings["sft"], num_labels=1)
    torch.nn.init.zeros_(value_model.score.weight)
    optimizer = torch.optim.Adam(
        [
            {"params": list(policy.parameters()), "lr": settings["learning_rate"]},
            {"params": list(value_model.parameters()), "lr": settings["value_learning_rate"]},
        ],
        eps=1e-5,
        fused=True,
    )
    config = PPOConfig(
        output_dir=str(out),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,  # on by default: memory for time
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        num_sample_generations=0,
        seed=settings["seed"],
        total_episodes=settings["num_iterations"] * settings["batch_size"],
        # Not in micro batches: with gradient_accumulation_steps above 1 it takes fewer optimizer steps than asked for.
        per_device_train_batch_size=settings["batch_size"],
        gradient_accumulation_steps=1,
        num_mini_batches=settings["batch_size"] // settings["minibatch_size"],
        num_ppo_epochs=settings["num_epochs"],
        local_rollout_forward_batch_size=settings["batch_size"],
        response_length=settings["max_new_tokens"],
        temperature=settings["temperature"],
        stop_token="eos",
        missing_eos_penalty=settings["missing_eos_penalty"],
        kl_coef=settings["kl_coefficient"],
        cliprange=settings["clip_range"],
        cliprange_value=settings["value_clip_range"],
        vf_coef=1.0,
        gamma=settings["discount"],
        lam=settings["gae_lambda"],
    )
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward_model,
        value_model=value_model,
        train_dataset=Dataset.from_dict({"input_ids": settings["prompts"]}),
        eval_dataset=Dataset.from_dict({"input_ids": settings["prompts"][: settings["batch_size"]]}),
        optimizers=(optimizer, get_constant_schedule(optimizer)),
        callbacks=[TakeTurns(Turns(settings, out), policy)],
    )
    trainer.train()


if __name__ == "__main__":
    main()
