"""The line: how one cell goes from the command line to its row in cells.csv.

The functions on the way, in the order in which they are called:

1. `bench.cli.measuring:run_command` makes a `Request` of the command's arguments
2. `bench.commands.run:run_suite` plans, measures, stores, reports
3. `bench.line.run:plan_run` looks up and checks everything that the request names
4. `bench.line.plan:make_plan` makes the cells: models x backends x conditions x recipes
5. `bench.line.run:run` begins the run in the store and runs every cell that is not done
6. `bench.line.cell:run_cell` turns one cell into one record, whatever happens
7. `bench.line.cell:find_everything` calls the stages of the cell
8. `bench.line.prepare:prepare` loads the backend and sets up the bench, with the next two
9. `bench.compress.pipeline:compress` applies the recipe to the model
10. `bench.line.artifacts:compile_cached` makes the file that is deployed
11. `bench.line.prepare:count_cost` counts what the file should cost
12. `bench.line.cell:run_prepared` runs the file, or asks a backend without a session for its estimate
13. `bench.line.measure:run_artifact` sends jobs and reads the events of their workers
14. `bench.reach.process:run_worker` starts a worker process on this machine
15. `bench.device.worker:work` runs the model there and times it
16. `bench.line.cell:check_outputs` compares the outputs with labels and reference
17. `bench.line.cell:compare_with_baseline` measures baseline and cell interleaved
18. `bench.line.findings:gather_evidence` collects every reason for a status
19. `bench.line.trust:decide` decides the status
20. `bench.line.findings:assemble` makes the record
21. `bench.store.database:Store.add` stores it
22. `bench.commands.report:write_files` writes cells.csv and dashboard.html
23. `bench.report.table:compute_row` computes the row from the record's raw samples
"""
