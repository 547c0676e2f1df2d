# Table of contents; the rules are in workflow/rules, one file per stage in the order data flows.
from snakemake.utils import min_version

min_version("9.14")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/atlas.smk"
include: "workflow/rules/environments.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/groups.smk"
include: "workflow/rules/tbr.smk"
include: "workflow/rules/tbr_measured.smk"
include: "workflow/rules/downstream.smk"
include: "workflow/rules/usage.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/reproduce.smk"


rule all:
    input:
        expand("<results>/{atlas}/environments/cells.h5ad", atlas=CONFIG.atlases),
        expand("<results>/{atlas}/report.html", atlas=CONFIG.atlases),


onstart:
    provenance.open_run(config["results"], RUN, sys.argv, config, ROOT)
    print(
        provenance.plan_run(config["results"], RUN, planned_stages()),
        file=sys.stderr,
    )


onsuccess:
    provenance.close_run(config["results"], RUN, "success")
    # what attempts at long jobs left for each other
    shutil.rmtree(Path(config["results"], "attempts"), ignore_errors=True)


onerror:
    provenance.close_run(config["results"], RUN, "failure")
