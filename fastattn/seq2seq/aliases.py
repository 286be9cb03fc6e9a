"""What other libraries call our settings: for answers to those who write these names here."""

from collections.abc import Mapping

__all__ = ["ALIASES"]

# Our name, or several for sections that have different ones.
_OTHERS = {
    "train": ("train_file", "train_data", "train_path", "trainset", "train_set", "src_train", "data", "path", "file"),
    "validation": ("valid", "val", "dev", "validation_file", "valid_file", "dev_file", "validation_data", "eval_file"),
    "train_target": ("target_file", "tgt_train", "train_tgt"),
    "validation_target": ("valid_target", "val_target", "dev_target"),
    "columns": ("usecols", "fields"),
    "source": ("tokenizer", "src", "source_tokenizer", "tokenization", "level", "source_lang"),
    "target": ("tgt", "trg", "target_tokenizer", "target_lang"),
    "source_size": ("vocab_size", "src_vocab_size", "source_vocab_size", "max_vocab", "num_words", "max_tokens"),
    "target_size": ("tgt_vocab_size", "target_vocab_size"),
    "min_count": ("min_freq", "min_frequency", "vocab_min_freq"),
    "shared": ("share_vocab", "joint_vocab", "shared_vocabulary", "joined_dictionary"),
    "lowercase": ("lower", "do_lower_case", "lower_case", "to_lower", "lowercased"),
    "normalization": ("unicode_normalization", "normalizer", "normalization_rule_name", "unicode"),
    "source_vocabulary": ("src_vocab", "vocab", "vocab_file", "source_vocab", "src_vocab_file", "spm_model"),
    "target_vocabulary": ("tgt_vocab", "target_vocab", "tgt_vocab_file"),
    "source_embeddings": ("src_embeddings", "pretrained_embeddings", "embeddings_file", "embed_path", "word_vectors"),
    "target_embeddings": ("tgt_embeddings",),
    "kind": ("type", "model", "model_type", "arch", "architecture", "name", "class"),
    "embedding": ("embedding_size", "embedding_dim", "embed_dim", "emb_size", "emb_dim", "embed_size", "word_vec_size"),
    "hidden": ("hidden_size", "hidden_dim", "rnn_size", "units", "n_hidden", "num_hidden", "hid_dim", "enc_hidden"),
    "attention": ("attention_size", "attention_dim", "attn_size", "attn_dim"),
    "mechanism": ("attention_type", "attn_type", "attention_mechanism", "global_attention"),
    "width": ("d_model", "hidden_size", "model_dim", "embed_dim", "embedding_size", "embedding_dim", "hidden_dim",
              "model_size", "hidden", "embedding"),
    "heads": ("n_heads", "num_heads", "nhead", "n_head", "num_attention_heads", "attention_heads", "nheads"),
    "inner": ("d_ff", "ffn_dim", "dim_feedforward", "d_inner", "intermediate_size", "ff_size", "ffn_size", "pf_dim"),
    "layers": ("num_layers", "n_layers", "nlayers", "depth", "num_hidden_layers", "n_layer", "encoder_layers"),
    "encoder_layers": ("num_encoder_layers", "enc_layers", "n_encoder_layers", "num_layers", "n_layers", "layers",
                       "num_hidden_layers", "n_layer", "depth"),
    "decoder_layers": ("num_decoder_layers", "dec_layers", "n_decoder_layers"),
    "norm": ("norm_first", "prenorm", "pre_norm", "normalize_before", "layer_norm"),
    "positions": ("position_encoding", "positional_encoding", "position_embedding", "pos_encoding"),
    "longest": ("max_position_embeddings", "max_positions", "max_len", "max_length", "max_seq_len", "n_positions"),
    "tied": ("tie_weights", "tie_word_embeddings", "tie_embeddings", "share_embeddings", "weight_tying"),
    "dropout": ("dropout_rate", "drop_rate", "p_dropout", "dropout_p", "drop", "dropout_prob", "hidden_dropout_prob"),
    "attention_dropout": ("attn_dropout", "attention_probs_dropout_prob", "attention_dropout_rate"),
    "label_smoothing": ("smoothing", "label_smooth", "label_smoothing_factor", "label_smoothing_eps"),
    "bidirectional": ("bidir", "brnn"),
    "init_from": ("train_from", "load_from", "pretrained", "finetune_from", "init_checkpoint", "warm_start",
                  "load_model", "finetune_from_model", "pretrained_model", "restore_file"),
    "seed": ("random_seed", "random_state", "manual_seed", "rng_seed"),
    "epochs": ("num_epochs", "n_epochs", "max_epochs", "num_train_epochs", "epoch", "nb_epoch", "max_epoch"),
    "max_steps": ("steps", "num_steps", "train_steps", "max_iters", "max_updates", "max_update", "n_steps",
                  "num_train_steps", "iterations", "num_iterations"),
    "tokens_per_batch": ("batch_size", "batch", "batchsize", "max_tokens", "batch_tokens", "train_batch_size",
                         "per_device_train_batch_size", "minibatch_size", "mini_batch"),
    "max_length": ("max_len", "max_seq_len", "max_seq_length", "max_new_tokens", "max_target_length", "maxlen",
                   "max_sentence_length", "max_source_length", "max_output_length"),
    "rate": ("learning_rate", "lr", "init_lr", "base_lr", "max_lr", "learn_rate", "learningrate", "eta"),
    "schedule": ("scheduler", "lr_scheduler", "lr_scheduler_type", "lr_schedule", "decay_method", "sched"),
    "warmup": ("warmup_steps", "warmup_updates", "num_warmup_steps", "warm_up"),
    "schedule_steps": ("decay_steps", "t_max", "total_steps", "cycle_steps", "num_cycle_steps", "total_num_update"),
    "lowest": ("min_lr", "eta_min", "lr_min", "end_learning_rate", "end_lr", "stop_min_lr"),
    "factor": ("gamma", "lr_decay", "learning_rate_decay", "decay_factor"),
    "plateau_patience": ("lr_patience", "decrease_patience"),
    "betas": ("adam_betas", "beta", "adam_beta1", "adam_beta2", "beta1", "beta2", "beta_1", "beta_2"),
    "epsilon": ("eps", "adam_epsilon", "adam_eps"),
    "decay": ("weight_decay", "l2", "wd", "l2_reg"),
    "clip": ("clip_norm", "max_grad_norm", "grad_clip", "gradient_clip", "clip_grad_norm", "clipnorm",
             "gradient_clip_val", "gradient_clipping", "grad_norm"),
    "precision": ("amp", "bf16", "fp16", "mixed_precision", "autocast", "use_amp", "use_bf16", "half_precision",
                  "float32_precision", "matmul_precision"),
    "average": ("ema", "ema_decay", "exponential_smoothing", "moving_average"),
    "sampling": ("scheduled_sampling", "teacher_forcing_ratio", "teacher_forcing"),
    "accumulate": ("gradient_accumulation_steps", "accumulate_grad_batches", "accum_count", "update_freq",
                   "grad_accum", "accumulation_steps"),
    "validate_every": ("eval_every", "eval_steps", "valid_freq", "val_check_interval", "valid_steps", "valid_every",
                       "validation_freq", "validate_interval", "eval_interval"),
    "checkpoint_every": ("save_every", "save_steps", "save_freq", "save_checkpoint_steps", "save_interval",
                         "checkpoint_steps"),
    "log_every": ("logging_steps", "log_interval", "report_every", "disp_freq", "logging_freq", "log_steps"),
    "patience": ("early_stopping", "early_stopping_patience", "early_stop"),
    "metric": ("early_stopping_metric", "metric_for_best_model", "valid_metrics", "metrics", "best_checkpoint_metric"),
    "keep": ("save_total_limit", "keep_checkpoints", "keep_last_ckpts", "keep_checkpoint", "keep_last"),
    "forbid": ("suppress_tokens", "bad_words", "bad_words_ids", "exclude", "suppress_sequences", "ban_tokens"),
    "allow": ("allowed_tokens", "allowlist", "whitelist"),
    "tensorboard": ("tensorboard_logdir", "log_dir", "logdir", "tensorboard_dir", "use_tensorboard", "summary_dir"),
    "beam": ("beam_size", "beams", "num_beams", "beam_width", "n_beams", "beam_search", "k"),
    "length_penalty": ("lenpen", "alpha", "length_alpha", "beam_alpha", "normalize", "len_penalty"),
    "coverage_penalty": ("covpen",),
    "cache": ("kv_cache_dtype", "cache_dtype", "kv_cache", "cache_implementation", "kv_cache_quant_algo"),
}  # fmt: skip


def _inverted() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for own, names in _OTHERS.items():
        for name in names:
            found.setdefault(name, []).append(own)
    return {name: tuple(several) for name, several in found.items()}


# From a name that others use to ours: the first one that a section has.
ALIASES: Mapping[str, tuple[str, ...]] = _inverted()
