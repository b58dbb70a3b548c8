"""The targets for the speed of this program, by key: workloads judge themselves under these keys."""

from __future__ import annotations

TARGETS = {
    "fashion-epoch": "Fashion-MNIST, lectures' CNN, an epoch with data, batch 128 and 512: ≥ 2.5× the best peer",
    "fashion-epoch-shifted": "the same with augmentation: ≥ 2.2× the best peer",
    "fashion-memory": "peak memory of Fashion-MNIST training: < 1.2 GB in all",
    "augmentation-share": "augmentation: < 15 % of a step of `mnist-cnn` at batch 128",
    "cifar-resnet18-64": "CIFAR ResNet-18, width 64, with augmentation: ≥ 2.5× plain torch fp32",
    "cifar-resnet18-32": "CIFAR ResNet-18, width 32, with augmentation: ≥ 2.2× plain torch fp32",
    "cifar-resnet18-utilisation": "CIFAR ResNet-18, width 64: ≥ 80 % of the bf16 matrix-product rate",
    "photo-loading": "photographs, loading alone, first epoch: ≥ 1.6× a torch DataLoader with Pillow and 2 workers",
    "photo-stream": "the same of a stream, which keeps nothing: ≥ 1.3×",
    "photos-first": "photographs, ResNet-18 at 160 pixels, first epoch end to end: ≥ 2× plain torch",
    "photos-later": "photographs, ResNet-18 at 160 pixels, later epochs: ≥ 2× plain torch",
    "loader-waits": "steps wait for data: < 5 % in all trainings",
    "streaming-memory": "peak memory is flat in the number of images when streaming",
    "streaming-million": "10⁶ images streamed: names, classes and fingerprints are kept, < 1 KB an image, no pixels",
    "speedrun-cifar10": "CIFAR-10 from JPEG files, `--recipe speedrun`, 12 minutes for everything: ≥ 91.5 %",
    "speedrun-mnist": "MNIST: ≥ 99.65 % in ≤ 60 s",
    "speedrun-fashion-mnist": "Fashion-MNIST: ≥ 94.5 % in ≤ 150 s",
    "minutes": "`--minutes T` takes T: 10 % less at most, 3 % more at most",
    "inference-torch": "ResNet-50 inference at 224, batch 32, with torch alone: ≥ 4.5× plain torch fp32",
    "inference-openvino": "ResNet-50 inference at 224, batch 32, with OpenVINO: ≥ 6× plain torch fp32",
    "inference-equal": "predictions equal to those of fp32: ≥ 99.5 % of real images",
    "busy": "beside two busy processes: throughput falls by no more than those two take",
    "plan-regret": "the plan's choice over the fastest way: ≥ 0.97 in the median, ≥ 0.92 in the worst; not below plain",
    "plan-cost": "the plan of a run of one minute: < 2 % of it",
    "whole-command-1": "from shell prompt to shell prompt, one epoch: ≥ 1× a script of plain torch",
    "whole-command-10": "the same, ten epochs: ≥ 2× a script of plain torch",
    "serve-rate": "`striate serve`, 64 clients: ≥ 90 % of the offline rate in batches",
    "serve-tail": "the same at 70 % of the load: p99 ≤ 3 × p50",
    "serve-overload": "the same at twice the load: refused with 429, memory stays",
    "serve-peers": "the same beside LitServe and a handler of FastAPI: more predictions a second",
    "gpu-resnet18": "on a GPU: CIFAR ResNet-18 ≥ plain torch in bf16 with channels_last, compiled",
    "gpu-resnet50": "on a GPU: ResNet-50 at 224 pixels ≥ plain torch in bf16 with channels_last, compiled",
    "gpu-reading": "on a machine with a GPU: ≥ 20,000 JPEG files a second, or 90 % of what decoding alone reaches",
    "plan-choice": "the plan's choice on ten networks: on none slower than `--plan plain` in all pairs of turns",
}
"""Key to target, in the order of the page. A workload writes `claims[key]`; a key that no result has was not
measured."""

TRIED = {
    "fashion-epoch": "A bare loop of 20 lines in bf16, channels_last, with freed memory reused, reaches 35,000 to "
    "36,000 images/s at batch 128. Half of its step is spent in oneDNN's convolutions. Intel's OpenMP, pinned threads "
    "and torch.compile (12,000) are not faster. striate uses one optimizer call for all parameters, pooling before "
    "ReLU and reused memory. Other ways to compute a step were measured in turns (`step_ways`): one buffer for all "
    "parameters, updates within the backward pass, bf16 copies of weights, stochastic rounding of weights, parts of "
    "batches, max-autotune, convolution and ReLU as one kernel. None is faster by more than repeats differ. Huge "
    "pages, by torch or by glibc, make steps 0.99 to 1.03 times as fast, those of a ResNet-18 at 160 pixels 1.00 to "
    "1.06 times (with AMX). Max pooling takes a quarter of a step; computed from slices, its forward pass takes a "
    "third of the time, its backward pass twice as much.",
    "fashion-epoch-shifted": "As above. The shifts are one indexed copy of the batch, 2 % of a step.",
    "cifar-resnet18-64": "striate uses bf16, channels_last and reused memory, and offers torch.compile where the run "
    "is long enough. oneDNN's gradients of kernels reach 425 to 500 of 970 GFLOP/s in bf16, and take most of the "
    "step. None of ten other ways to compute a step (`step_ways`) is faster by more than repeats differ. On an Intel "
    "Xeon with AVX-512 bf16 but without AMX, as under some virtual machines, products in bf16 are half as fast as in "
    "fp32 (219 and 400 GFLOP/s): the plan chooses fp32 there, and reaches 1.08× plain torch.",
    "cifar-resnet18-32": "As for width 64: narrow convolutions use less of the matrix units. One buffer for all "
    "parameters (`step_ways`) was 7 % faster, less than its repeats differ, and 6 % slower at width 64.",
    "cifar-resnet18-utilisation": "The rate is that of matrix products; the gradients of kernels reach half of it. "
    "With AMX, products reach 2,400 GFLOP/s and a step 690: single convolutions of 3 × 3 reach 890 to 4,000, their "
    "gradients by kernels 270 to 1,670, both least with 512 maps of 4 × 4. Convolutions take three fifths of a step "
    "of 0.61 s, half of that these gradients; normalizations, ReLU and the update take the rest.",
    "photo-loading": "libjpeg-turbo alone decodes 2,000 files in 0.6 of 1.2 s on both cores. striate reads headers "
    "with it, looks at each file once, and keeps splits as parts of one block. It decodes at half size or less only "
    "where a file has four times the pixels of the input on each axis, as others would differ visibly. To interpolate "
    "color as Pillow does takes a fifth of the decoding.",
    "photo-stream": "A stream decodes all files once before the first epoch, for the statistics that normalize inputs "
    "and to report damaged files before training, and then again in each epoch. Later epochs are 1.2 to 1.3 times as "
    "fast as the DataLoader. Without the first pass, the first epoch would still look at all files once more than the "
    "DataLoader does. Data that fit into memory, or onto the disk (`--data.store pack`), are decoded once.",
    "speedrun-cifar10": "28 epochs (27 minutes) of the same recipe reach 91.47 %: in 15, it already answers 99 % of "
    "its training images right. A network half as wide again reaches 90.89 % in the 12 minutes, in 6.6 epochs; 15 "
    "epochs with shifts of up to 4 pixels reach 91.09 %, with a square blanked in each image 91.33 % (one seed each, "
    "that of a run with 91.44 %). More views of each test image change nothing. Two networks of 7 epochs each, which "
    "together take as long, reach 90.27 and 90.52 %, and the mean of their predictions 90.71 %.",
    "gpu-reading": "Processes read and decode, for streams too: threads waited for each other in Python and reached "
    "1,146 and 703 a second. Decoding and resizing take 1.2 of 2.0 s on all cores. The rest is work that is done "
    "once: listing the files, looking for damaged and equal ones, and, for a stream, decoding all of them for the "
    "statistics.",
    "gpu-resnet50": "A step takes 38 ms on the GPU, and the program had more to do: it listed rows and columns of "
    "moved images, and copied the statistics of batch normalization tensor by tensor. The GPU lists them now: 0.99× "
    "instead of 0.60×. What is left is the end of an epoch in one of two turns.",
    "whole-command-1": "The difference is what the script does not do: the report's pictures, intervals, digests of "
    "all samples for splits and leaks, the strength of the signal in the network. A second process loads SciPy and "
    "Matplotlib meanwhile and draws. Metrics of a few lines are computed without scikit-learn, which takes a second "
    "to load. Libraries are imported where they are used. Of the training samples a tenth of what training processes "
    "is measured. Of 4.6 s for an epoch of mnist5k, 1.6 pass until everything is loaded (0.9 of them torch), 0.7 "
    "until the first step, 0.8 in steps and 1.5 after them, of which drawing takes 1.2 on both cores. A second "
    "process that starts before torch is loaded, or has a lower priority, makes it no faster.",
    "serve-rate": "The 64 clients share the two cores with the server, which has them for itself at the offline rate. "
    "Decoding runs ahead of the network, and requests are batched by a deadline.",
    "whole-command-10": "As above: loading torch alone takes a quarter of the script's time for mnist5k. For "
    "Fashion-MNIST, steps are twice as fast, and everything else takes 7 of 40 s.",
}
"""What was tried for what is not met, by the same keys."""
