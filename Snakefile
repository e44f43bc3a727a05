# NeuralDiffuser: from 7T fMRI to pictures, as one workflow.
#
# config.yaml        what is computed; overlays in config/ (config/mini.yaml: the offline miniature)
# rules/             one file per stage, in the order of the includes below
# workflow_scripts/  one script per rule, and the library behind them
# results/{experiment}/  everything that is made; logs/ and benchmarks/ have a folder per rule

import gc
import sys

from snakemake.utils import min_version

min_version("9.27.1")
sys.path.insert(0, f"{workflow.basedir}/workflow_scripts")

from neuraldiffuser.snakemake_by_content import decide_by_content

decide_by_content()

# A graph of thousands of jobs is made of objects that stay: to look for garbage among them again and
# again takes a fifth of the time.
gc.set_threshold(200_000)


configfile: f"{workflow.basedir}/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/mini.smk"
include: "rules/data.smk"
include: "rules/models.smk"
include: "rules/voxels.smk"
include: "rules/targets.smk"
include: "rules/decoders.smk"
include: "rules/encoding.smk"
include: "rules/reconstruction.smk"
include: "rules/brain.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/fidelity.smk"
include: "rules/gallery.smk"


# Snakemake keeps one such block only, the last.
onstart:
    refuse_unaccepted_terms()
    refuse_unknown_device()
    claim_folders()
    # Under a limit of starts per second Snakemake looks for jobs ever more often, N times a second
    # after N jobs: a third of a core at 200. On one machine the cores are limit enough.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    keep_rates_of_run()


onerror:
    keep_rates_of_run()


localrules:
    all,


rule all:
    default_target: True
    input:
        "<results>/report.html",
        "<results>/findings.json",
