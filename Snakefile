# Table of contents; the rules are in workflow/rules, one file per stage in the order data flows.
from snakemake.utils import min_version

min_version("9.14")


# a config of your own (--configfile) replaces the demo's instead of being merged into it
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/atlas.smk"
include: "workflow/rules/environments.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/groups.smk"
include: "workflow/rules/tbr.smk"
include: "workflow/rules/tbr_measured.smk"
include: "workflow/rules/downstream.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/reproduce.smk"


rule all:
    default_target: True
    input:
        expand("<results>/{atlas}/environments/cells.h5ad", atlas=CONFIG.atlases),
        expand("<results>/{atlas}/report.html", atlas=CONFIG.atlases),


onstart:
    provenance.open_run(CONFIG.results, RUN, sys.argv, config, workflow.basedir)


onsuccess:
    provenance.close_run(CONFIG.results, RUN, "success")


onerror:
    provenance.close_run(CONFIG.results, RUN, "failure")
