"""The table of attacks on the layers: what is done to them, in which words, what must come of it, and its test.

Attacks on the commands are the cases of ``tests/bad_input``; those of the two fuzz targets are drawn by
``launch/test_annotation_fuzz.py`` (annotation files) and ``layers/test_call_sequences.py`` (calls in any order).
"""

from typing import NamedTuple


class Attack(NamedTuple):
    """One line of the table."""

    what: str
    code: str
    expected: str
    test: str  # below tests/


FOREIGN = 'layers/test_foreign_calls.py::test_'
SPECIAL = 'layers/test_special_inputs.py::test_'
CHECKPOINTING = 'regimes/test_checkpointing.py::test_'
EXPORT = 'layers/test_export.py::test_'
PAIRING = 'layers/test_pairing.py::test_'
STATE = 'layers/test_local_state.py::test_'
NUMBERS = 'layers/test_numbers.py::test_'
OPS = 'ops/test_properties.py::test_'

# fmt: off
# ruff: noqa: E501
ATTACKS = [Attack(*row) for row in (
    # Values
    ('13 geometries along trainings, exponential', 'conv = Conv2d(stride, padding, dilation, groups, mode, ...)', 'the formulas in float64', 'layers/test_exponential_window.py::test_cbn_is_the_average_of_all_past_entries'),
    ('13 geometries along trainings', 'the same with a window of k', 'the formulas in float64', 'layers/test_cross_iteration.py::test_cbn_is_the_papers'),
    ('any geometry', 'hypothesis draws kernel, stride, padding, dilation, groups', "autograd's derivatives", f'{OPS}derivatives_are_autograds_through_conv2d'),
    ('scales 1e-20 to 1e18', 'norm(conv(1e18 * x))', 'the formulas in float64', f'{NUMBERS}float32_follows_the_formulas_at_any_scale'),
    ('offsets to 1e6', 'norm(conv(x + 1e6))', 'as without', f'{NUMBERS}an_offset_of_the_input_changes_nothing'),
    ('means of 10,000 deviations in float32', 'norm(conv(0.1 * x + 1000)), weights moving', 'three digits', 'layers/test_exponential_window.py::test_large_means_lose_no_digits_that_the_window_keeps'),
    ('inf, nan', 'x[1, 2, 3, 3] = inf', 'enters nothing', f'{SPECIAL}non_finite_statistics_do_not_enter'),
    ('variance overflows', 'norm(conv(1e25 * x))', 'enters nothing', f'{SPECIAL}a_variance_that_overflows_does_not_enter'),
    ('derivative overflows', 'weights 1e-38, inputs 1e38', 'enters no window', f'{SPECIAL}a_derivative_that_overflows_stays_out_of_the_window_alone'),
    ('inf in running statistics', 'norm.running_var[1] = inf', 'the channel begins anew', f'{SPECIAL}running_values_that_are_not_finite_begin_anew'),
    ('variance beyond half', 'norm.half()(1000 * x)', 'saturates', f'{SPECIAL}statistics_beyond_what_half_buffers_hold'),
    ('1,000 iterations, one in 20 bad', 'inf in activations or gradients', 'learns, all finite', 'regimes/test_bad_statistics.py::test_a_thousand_iterations_one_in_twenty_bad'),
    ('empty batch', 'norm(x[:0])', 'empty output, nothing changes', f'{SPECIAL}empty_batch_reaches_every_parameter_and_changes_nothing'),
    ('one value a channel', 'norm(x of 1 x C x 1 x 1)', "BN's error in burn-in, else trains", f'{SPECIAL}one_value_per_channel_raises_as_bn_does_during_burn_in'),
    ('eps=0', 'CBN(4, eps=0)', 'ValueError', f'{FOREIGN}eps_must_be_above_zero'),
    # Between convolution and norm
    ('a change in place', 'norm(conv(x).mul_(2)), in-place ReLU, dropout', 'PairingError', f'{FOREIGN}a_change_in_place_between_convolution_and_norm_is_refused'),
    ('a hook that changes the output', 'conv.register_forward_hook(lambda c, i, o: 2 * o)', 'PairingError', f'{FOREIGN}a_hook_that_changes_the_output_is_refused'),
    ('a hook that looks on', 'conv.register_forward_hook(print)', 'trains', f'{FOREIGN}a_hook_that_looks_on_is_welcome'),
    ('a tensor from elsewhere', 'norm(x)', 'PairingError', f'{PAIRING}a_tensor_from_elsewhere_raises_and_names_both'),
    ('input by name', 'conv(input=x)', 'trains', f'{FOREIGN}a_convolution_called_by_name'),
    ('modes that differ', 'conv.eval(); norm.train()', 'PairingError', f'{FOREIGN}modes_that_differ_are_named'),
    ('a convolution replaced', 'net[0] = Conv2d(...); pair_conv_norm(net)', 'a new window', f'{FOREIGN}another_convolution_has_a_window_of_its_own'),
    ('pairing again', 'pair_conv_norm(net) each step', 'the window stays', f'{FOREIGN}pairing_again_keeps_the_window'),
    ('an unknown subclass', 'class WSConv(Conv2d)', 'TypeError', f'{PAIRING}a_subclass_with_an_unknown_weight_is_refused'),
    ('a transposed convolution', 'ConvTranspose2d, norm', 'TypeError', f'{PAIRING}other_convolutions_are_refused_by_name'),
    # State
    ('partial state dict', "load_state_dict({'0.weight': w}, strict=False)", 'leaves others alone', f'{FOREIGN}a_state_dict_leaves_layers_alone_that_it_does_not_name'),
    ("another layer's checkpoint", 'brn.load_state_dict(cbn.state_dict())', 'warns, starts anew', f'{FOREIGN}the_counter_of_another_layer_is_not_taken_over'),
    ('to_empty', 'norm.to_empty(); norm.reset_parameters()', 'a new layer', f'{FOREIGN}reset_parameters_makes_a_new_layer'),
    ('a model on meta', 'load_state_dict(state, assign=True)', 'nothing stays on meta', f'{FOREIGN}a_model_on_meta_takes_the_tensors_of_a_checkpoint'),
    ('new weights', 'block.load_state_dict(other)', 'the window starts empty', 'layers/test_persistence.py::test_the_window_does_not_outlive_its_weights'),
    ('copies', 'deepcopy, pickle, torch.save', 'go on as the original', 'layers/test_persistence.py::test_copies_continue_as_the_original'),
    ("another run's window", 'load_local_state(model, state of other weights)', 'left, with the reason', f'{STATE}other_weights'),
    ('killed and resumed five times', 'SIGKILL during a run and while it saves', 'bit for bit', 'resume/test_killed_runs.py::test_killed_and_resumed_five_times'),
    # Calls of torch
    ('update_bn', 'update_bn(batches, net)', 'population statistics', f'{FOREIGN}update_bn_collects_population_statistics'),
    ('no momentum', 'mabn.momentum = None', 'ValueError in training', f'{FOREIGN}training_without_a_momentum_is_refused'),
    ('no_grad in training mode', 'with no_grad(): norm(conv(x))', 'uses the window, adds nothing', f'{SPECIAL}training_forward_without_grad_uses_the_window_and_does_not_add'),
    ('inference_mode first', 'with inference_mode(): block(x)', 'leaves no trace', f'{SPECIAL}inference_mode_before_the_first_step_leaves_no_trace'),
    ('checkpointing, both kinds', 'checkpoint(block, x, use_reentrant=...)', 'the plain run', f'{CHECKPOINTING}checkpointing_equals_the_plain_run'),
    ('a batch without backward pass', 'checkpoint(block, x, use_reentrant=True)', 'is skipped', f'{CHECKPOINTING}a_batch_without_a_backward_pass_is_skipped'),
    ('a shared head, reentrant', 'checkpoint(head, each level)', 'RuntimeError, one line', f'{CHECKPOINTING}reentrant_checkpointing_of_a_shared_head_is_refused'),
    ('calls of one shape', 'loss(batch 1) + loss(batch 2)', 'RuntimeError, one line', f'{CHECKPOINTING}calls_that_cannot_be_told_apart_are_refused'),
    ('the same, reentrant', 'loss(batch 1) + loss(batch 2)', 'RuntimeError, one line', f'{CHECKPOINTING}two_batches_before_the_backward_pass_are_refused_in_the_reentrant_kind'),
    ('no_grad before checkpointing', 'with no_grad(): model(x)', 'RuntimeError until model.train()', f'{CHECKPOINTING}a_pass_without_gradients_before_is_refused_until_the_mode_is_set'),
    ('losses kept with their graphs', 'kept.append(loss)', 'the plain run', f'{CHECKPOINTING}graphs_that_live_on_are_not_repeated_again'),
    ('retain_graph', 'loss.backward(retain_graph=True)', 'the plain run', f'{CHECKPOINTING}a_graph_may_be_repeated_twice'),
    ('FSDP of model or blocks', 'FullyShardedDataParallel(block)', 'as one whole model', 'regimes/test_fsdp.py::test_a_sharded_model_trains_as_a_whole_one'),
    ('FSDP of a convolution', 'FullyShardedDataParallel(conv)', 'RuntimeError, one line', 'regimes/test_fsdp.py::test_a_convolution_alone_is_refused'),
    ('a sharded weight', 'conv.weight = flat parameter', 'RuntimeError, one line', f'{FOREIGN}a_weight_that_is_sharded_is_named'),
    ('torch.compile', 'torch.compile(model)', 'as eager', 'regimes/test_compiled.py::test_compiled_model_equals_eager'),
    ('trace, script, fx, export, compile in eval mode', 'torch.jit.script(model.eval())', 'the same outputs', f'{EXPORT}the_exported_model_computes_the_same'),
    ('script of a folded model', 'torch.jit.script(fuse_conv_bn(model))', 'the same outputs', f'{EXPORT}a_folded_model_can_be_scripted'),
    ('FLOPs in training mode', 'torch.jit.trace(model.train(), x)', 'a warning, nothing changes', f'{EXPORT}a_trace_in_training_mode_is_of_bn_and_says_so'),
    ('second derivatives', 'grad(grad(...))', 'RuntimeError', 'layers/test_cross_iteration.py::test_second_derivatives_are_refused'),
    ('interrupted between convolution and norm', 'KeyboardInterrupt', 'keeps no activations', 'layers/test_long_run.py::test_an_interrupted_forward_keeps_no_activations'),
)]
# fmt: on
