"""Which steps a window covers when the host really samples: by noise as the host, by steps as the web UI."""

from collections import defaultdict

import pytest
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

STEPS = 20
WINDOWS = [(0.0, 0.5), (0.2, 0.8), (0.3, 0.7), (0.35, 0.6)]

WEBUI = {(0.0, 0.5): (0, 10), (0.2, 0.8): (4, 16), (0.3, 0.7): (6, 14), (0.35, 0.6): (7, 12)}
"""First and last active step of 20 in sd-webui-controlnet: scripts/hook.py, whatever the scheduler."""

CORE = {
    "normal": [(0, 9), (4, 15), (6, 13), (7, 11)],
    "sgm_uniform": [(0, 10), (4, 16), (6, 14), (7, 12)],
    "karras": [(0, 8), (5, 11), (7, 10), (7, 9)],
    "exponential": [(0, 6), (4, 9), (5, 8), (6, 7)],
    "beta": [(0, 10), (6, 14), (8, 12), (8, 11)],
}
"""The same by noise, for WINDOWS in order: measured on the host's own Apply ControlNet with SD1.5."""


class Recorder:
    """Counts, per noise level, the calls of the model and of the net in each window.

    Runs every window of one sampling at once: the conditioning carries a chain of units, one per
    window, and each unit's net notes the noise level it was called at.
    """

    def __init__(self, of, apply, windows):
        self.calls = []
        self.active = defaultdict(list)
        self.positive, self.negative = real.conditioning(of, 1), real.conditioning(of, 2)
        image = real.picture(64, 64)
        for window in windows:
            net = self._noting(of.control, window)
            self.positive, self.negative = apply(self.positive, self.negative, net, image, *window)

    def _noting(self, control, window):
        recorder = self

        class Noting(type(control)):
            def copy(self):
                net = super().copy()
                net.__class__ = Noting
                return net

            def control_merge(self, control, control_prev, output_dtype):
                recorder.active[window].append(recorder.calls[-1])
                return super().control_merge(control, control_prev, output_dtype)

        net = control.copy()
        net.__class__ = Noting
        return net

    def sample(self, of, run):
        model = of.model.clone()
        model.add_wrapper_with_key("calc_cond_batch", "record", self._note_call)
        return real.sample(of._replace(model=model), self.positive, self.negative, run)

    def _note_call(self, executor, *args, **kwargs):
        self.calls.append(float(args[3][0]))
        return executor(*args, **kwargs)

    def steps(self, window):
        """Indices into the distinct noise levels, in order of first use, at which the net ran."""
        levels = list(dict.fromkeys(self.calls))
        return sorted({levels.index(level) for level in self.active[window]})


def core_with_window(positive, negative, net, image, start, end):
    return real.core_apply(positive, negative, net, image, 0.2, start, end)


def tiller_with(window):
    def apply(positive, negative, net, image, start, end):
        settings = {"strength": 0.2, "start_percent": start, "end_percent": end, "window": window}
        return real.tiller_apply(positive, negative, net, image, **settings)

    return apply


def spans(apply, scheduler, sampler="euler", name="sd15"):
    of = real.family(name)
    recorder = Recorder(of, apply, WINDOWS)
    recorder.sample(of, Run(size=(4, 4), steps=STEPS, scheduler=scheduler, sampler=sampler))
    assert len(dict.fromkeys(recorder.calls)) == STEPS
    rows = [recorder.steps(window) for window in WINDOWS]
    assert all(row == list(range(row[0], row[-1] + 1)) for row in rows)
    return [(row[0], row[-1]) for row in rows]


@pytest.mark.parametrize("scheduler", CORE)
def test_steps_window_covers_the_steps_of_the_web_ui(scheduler):
    assert spans(tiller_with("steps"), scheduler) == [WEBUI[window] for window in WINDOWS]


@pytest.mark.parametrize("scheduler", CORE)
def test_noise_window_covers_the_steps_of_the_host(scheduler):
    assert spans(tiller_with("noise"), scheduler) == CORE[scheduler]


def test_the_table_of_the_host_is_the_hosts():
    assert spans(core_with_window, "karras") == CORE["karras"]


def test_steps_are_counted_alike_on_flux():
    assert spans(tiller_with("steps"), "simple", name="flux") == [WEBUI[window] for window in WINDOWS]


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_sde"])
def test_looks_between_steps_belong_to_their_step(sampler):
    of = real.family("sd15")
    window, total = (0.2, 0.6), 10
    recorder = Recorder(of, tiller_with("steps"), [window])
    recorder.sample(of, Run(size=(4, 4), steps=total, sampler=sampler, scheduler="karras"))
    ksampler = real.host().comfy.samplers.KSampler(of.model, total, "cpu", sampler, "karras")
    starts = ksampler.sigmas[:-1].tolist()
    step_of = {level: sum(start >= level * 0.9999 for start in starts) - 1 for level in recorder.calls}
    assert len(recorder.calls) == 2 * total - 1
    assert set(step_of.values()) == set(range(total))
    expected = [level for level in recorder.calls if 2 <= step_of[level] <= 6]
    assert recorder.active[window] == expected


def test_image_to_image_counts_the_steps_that_are_left():
    of = real.family("sd15")
    recorder = Recorder(of, tiller_with("steps"), WINDOWS)
    recorder.sample(of, Run(size=(4, 4), steps=STEPS, denoise=0.5))
    assert [recorder.steps(window)[0] for window in WINDOWS] == [WEBUI[window][0] for window in WINDOWS]
    assert [recorder.steps(window)[-1] for window in WINDOWS] == [WEBUI[window][1] for window in WINDOWS]


@pytest.mark.parametrize("window", ["noise", "steps"])
def test_a_window_that_covers_no_step_is_said(window, caplog):
    of = real.family("sd15")
    recorder = Recorder(of, tiller_with(window), [(0.3, 0.4)])
    recorder.sample(of, Run(size=(4, 4), steps=4, scheduler="sgm_uniform"))
    assert recorder.active == {}
    lines = [record.getMessage() for record in caplog.records if record.name == "tiller"]
    assert len(lines) == 1
    assert lines[0].startswith(
        "A control unit acts in none of the 4 steps of this sampler: its window 0.300 to 0.400"
    )
