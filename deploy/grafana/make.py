#!/usr/bin/env python3
"""Writes the dashboards beside it from the tables below. usage: make.py [FOLDER]. The written files are checked in."""
import json
import os
import sys

RATE = "[$__rate_interval]"


def quantiles(metric, by="", shares=(0.5, 0.95, 0.99)):
    """One line per share of a histogram."""
    group = "le" + (f", {by}" if by else "")
    legend = f" {{{{{by}}}}}" if by else ""
    return [(f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket{RATE})))", f"p{q * 100:g}{legend}") for q in shares]


def rate(metric, by, where=""):
    return [(f"sum by ({by}) (rate({metric}{{{where}}}{RATE}))" if where else f"sum by ({by}) (rate({metric}{RATE}))", f"{{{{{by.split(', ')[-1]}}}}}")]


WORKER = 'worker=~"$worker"'

# dashboard: (title, [(panel title, unit, [(expression, legend)])])
DASHBOARDS = {
    "overview": ("Berth: overview", [
        ("Gateways up", "none", [('sum(up{job="berth-gateway"})', "gateways")]),
        ("Workers ready", "none", [('sum(max by (worker) (berth_gateway_worker_state{state="ready"}))', "workers")]),
        ("Streams open", "none", [("sum(berth_gateway_streams_open)", "streams")]),
        ("Errors", "percentunit", [("berth:gateway_errors:ratio_rate5m", "failed"), ("berth:gateway_shed:ratio_rate5m", "refused for want of room")]),
        ("Requests by end", "reqps", rate("berth_gateway_requests_total", "code")),
        ("Tokens", "none", [("berth:generation_tokens:rate1m", "{{model_name}} generated/s"), ("sum(rate(vllm:prompt_tokens_total" + RATE + "))", "prompt/s")]),
        ("Time to first token", "s", quantiles("berth_gateway_time_to_first_token_seconds")),
        ("Between tokens", "s", quantiles("berth_gateway_inter_token_latency_seconds")),
        ("Sessions that found their worker", "percentunit", [("berth:affinity_hit:ratio_rate5m", "found")]),
        ("Streams taken over", "ops", rate("berth_gateway_failovers_total", "phase, result")),
        ("KV cache", "percentunit", [("max by (worker) (vllm:kv_cache_usage_perc)", "{{worker}}")]),
        ("Gap when a stream is taken over", "s", quantiles("berth_gateway_failover_gap_seconds")),
        ("Versions", "none", [("count by (version, job) (berth_build_info)", "{{job}} {{version}}")]),
    ]),
    "gateway": ("Berth: gateways", [
        ("Requests by method", "reqps", rate("berth_gateway_requests_total", "method")),
        ("Requests by end", "reqps", rate("berth_gateway_requests_total", "code")),
        ("Duration", "s", quantiles("berth_gateway_request_duration_seconds", "method", (0.5, 0.99))),
        ("What the gateway adds", "s", quantiles("berth_gateway_overhead_seconds", "phase", (0.5, 0.99))),
        ("Waiting for room", "none", [("sum by (priority) (berth_gateway_queue_depth)", "{{priority}}")]),
        ("Time waited for room", "s", quantiles("berth_gateway_queue_wait_seconds")),
        ("Refused for want of room", "reqps", rate("berth_gateway_shed_total", "reason")),
        ("Slow callers dropped", "ops", [("sum(rate(berth_gateway_slow_client_aborts_total" + RATE + "))", "streams")]),
        ("Placements", "ops", rate("berth_gateway_routing_decisions_total", "policy, outcome")),
        ("Streams by worker", "none", [("sum by (worker) (berth_gateway_streams_open)", "{{worker}}")]),
        ("Circuit: 0 closed, 1 half-open, 2 open", "none", [("max by (worker) (berth_gateway_circuit_state)", "{{worker}}")]),
        ("Links up", "none", [("sum by (worker) (berth_gateway_worker_up)", "{{worker}}")]),
        ("gRPC calls", "reqps", rate("grpc_server_handled_total", "grpc_method, grpc_code")),
        ("gRPC calls begun", "reqps", rate("grpc_server_started_total", "grpc_method")),
        ("gRPC duration", "s", quantiles("grpc_server_handling_seconds", "grpc_method", (0.99,))),
        ("Certificate expires in", "s", [("berth_gateway_tls_cert_expiry_timestamp_seconds - time()", "gateway {{instance}}, shown to {{shown_to}}"),
                                          ("berth_worker_tls_cert_expiry_timestamp_seconds - time()", "worker {{instance}}")]),
        ("Keys and certificates read again", "ops", rate("berth_gateway_config_reloads_total", "result")),
        ("CPU", "percentunit", [('rate(process_cpu_seconds_total{job="berth-gateway"}' + RATE + ")", "{{instance}}")]),
        ("Memory", "bytes", [('process_resident_memory_bytes{job="berth-gateway"}', "{{instance}}")]),
        ("File descriptors", "none", [('process_open_fds{job="berth-gateway"}', "{{instance}}")]),
    ]),
    "workers": ("Berth: workers", [
        ("Running", "none", [(f"vllm:num_requests_running{{{WORKER}}}", "{{worker}}")]),
        ("Waiting", "none", [(f"vllm:num_requests_waiting{{{WORKER}}}", "{{worker}}")]),
        ("Load, maximum over mean", "none", [("berth:worker_running:max_over_mean", "{{model_name}}")]),
        ("State", "none", [(f'max by (worker, state) (berth_gateway_worker_state{{{WORKER}}}) == 1', "{{worker}} {{state}}")]),
        ("Tokens generated", "none", rate("vllm:generation_tokens_total", "worker", WORKER)),
        ("Prompt tokens", "none", rate("vllm:prompt_tokens_total", "worker", WORKER)),
        ("Steps", "ops", rate("berth_worker_engine_steps_total", "worker", WORKER)),
        ("Sequences per step", "none", [(f"sum by (worker) (rate(vllm:generation_tokens_total{{{WORKER}}}{RATE})) / sum by (worker) (rate(berth_worker_engine_steps_total{{{WORKER}}}{RATE}))", "{{worker}}")]),
        ("Time to first token", "s", quantiles("vllm:time_to_first_token_seconds")),
        ("Between tokens", "s", quantiles("vllm:inter_token_latency_seconds")),
        ("Time per output token", "s", quantiles("vllm:request_time_per_output_token_seconds")),
        ("Requests, whole", "s", quantiles("vllm:e2e_request_latency_seconds")),
        ("Waited for the engine", "s", quantiles("vllm:request_queue_time_seconds")),
        ("Prefill", "s", quantiles("vllm:request_prefill_time_seconds")),
        ("Decode", "s", quantiles("vllm:request_decode_time_seconds")),
        ("Inference", "s", quantiles("vllm:request_inference_time_seconds")),
        ("KV cache", "percentunit", [(f"vllm:kv_cache_usage_perc{{{WORKER}}}", "{{worker}}")]),
        ("KV blocks", "none", [(f"sum by (state) (berth_worker_kv_blocks{{{WORKER}}})", "{{state}}")]),
        ("Workers by size of their KV cache", "none", [("count by (num_gpu_blocks, block_size) (vllm:cache_config_info)", "{{num_gpu_blocks}} blocks of {{block_size}}")]),
        ("Put back for want of KV", "ops", rate("vllm:num_preemptions_total", "worker", WORKER)),
        ("Requests by end", "reqps", rate("vllm:request_success_total", "finished_reason", WORKER)),
        ("Refused", "reqps", rate("berth_worker_rejected_total", "worker", WORKER)),
        ("Prompt lengths", "none", quantiles("vllm:request_prompt_tokens", shares=(0.5, 0.99))),
        ("Output lengths", "none", quantiles("vllm:request_generation_tokens", shares=(0.5, 0.99))),
        ("Time of the host per step", "s", [(f"rate(berth_worker_engine_host_seconds_total{{{WORKER}}}{RATE}) / rate(berth_worker_engine_steps_total{{{WORKER}}}{RATE})", "{{worker}}")]),
        ("Engine waited for the I/O thread", "ops", rate("berth_worker_ring_full_waits_total", "worker", WORKER)),
        ("Frames", "ops", rate("berth_worker_link_frames_total", "worker", WORKER)),
        ("Events per frame", "none", [(f"sum by (worker) (rate(berth_worker_link_events_total{{{WORKER}}}{RATE})) / sum by (worker) (rate(berth_worker_link_frames_total{{{WORKER}}}{RATE}))", "{{worker}}")]),
        ("Gateways attached", "none", [(f"berth_worker_links{{{WORKER}}}", "{{worker}}")]),
        ("Ready", "none", [(f"berth_worker_ready{{{WORKER}}}", "{{worker}}")]),
        ("State", "none", [(f"berth_worker_state{{{WORKER}}} == 1", "{{worker}} {{state}}")]),
        ("Since the last step", "s", [(f"time() - berth_worker_last_step_timestamp_seconds{{{WORKER}}}", "{{worker}}")]),
        ("Tokens per step", "none", quantiles("vllm:iteration_tokens_total", shares=(0.5, 0.99))),
        ("CPU", "percentunit", [('rate(process_cpu_seconds_total{job="berth-worker"}' + RATE + ")", "{{worker}}")]),
        ("Memory", "bytes", [('process_resident_memory_bytes{job="berth-worker"}', "{{worker}}")]),
        ("Age of the process", "s", [('time() - process_start_time_seconds{job="berth-worker"}', "{{worker}}")]),
    ]),
    "sessions": ("Berth: sessions", [
        ("Sessions in memory", "none", [(f"berth_worker_sessions_open{{{WORKER}}}", "{{worker}}")]),
        ("Sessions that found their worker", "percentunit", [("berth:affinity_hit:ratio_rate5m", "found")]),
        ("Placements by outcome", "ops", rate("berth_gateway_routing_decisions_total", "outcome", 'policy="session"')),
        ("Placements by policy", "ops", rate("berth_gateway_routing_decisions_total", "policy")),
        ("Prompt found in the cache", "percentunit", [("berth:prefix_cache_hit:ratio_rate5m", "{{model_name}}")]),
        ("Prompt tokens found in the cache", "none", rate("vllm:prefix_cache_hits_total", "worker", WORKER)),
        ("KV blocks kept for later turns", "none", [(f'berth_worker_kv_blocks{{state="cached", {WORKER}}}', "{{worker}}")]),
        ("Streams taken over", "ops", rate("berth_gateway_failovers_total", "phase, result")),
        ("Streams taken up after a broken link", "ops", rate("berth_worker_streams_reattached_total", "worker", WORKER)),
        ("Turns that another worker had taken over", "ops", rate("berth_worker_fenced_commits_total", "worker", WORKER)),
    ]),
    "gpu": ("Berth: GPUs", [
        ("Utilisation", "percent", [("DCGM_FI_DEV_GPU_UTIL", "{{Hostname}} {{gpu}}")]),
        ("Tensor cores", "percentunit", [("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "{{Hostname}} {{gpu}}")]),
        ("Memory bandwidth", "percentunit", [("DCGM_FI_PROF_DRAM_ACTIVE", "{{Hostname}} {{gpu}}")]),
        ("Memory used", "decmbytes", [("DCGM_FI_DEV_FB_USED", "{{Hostname}} {{gpu}}")]),
        ("Power", "watt", [("DCGM_FI_DEV_POWER_USAGE", "{{Hostname}} {{gpu}}")]),
        ("Temperature", "celsius", [("DCGM_FI_DEV_GPU_TEMP", "{{Hostname}} {{gpu}}")]),
        ("Clock", "rotmhz", [("DCGM_FI_DEV_SM_CLOCK", "{{Hostname}} {{gpu}}")]),
        ("XID of the last error", "none", [("DCGM_FI_DEV_XID_ERRORS", "{{Hostname}} {{gpu}}")]),
        ("NVLink", "Bps", [("rate(DCGM_FI_PROF_NVLINK_TX_BYTES" + RATE + ")", "{{Hostname}} {{gpu}} sent"), ("rate(DCGM_FI_PROF_NVLINK_RX_BYTES" + RATE + ")", "{{Hostname}} {{gpu}} received")]),
        ("Tokens generated per watt", "none", [("sum(rate(vllm:generation_tokens_total" + RATE + ")) / sum(DCGM_FI_DEV_POWER_USAGE)", "tokens/J")]),
    ]),
}  # fmt: skip


def panel(number, title, unit, lines):
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1, "type": "timeseries", "title": title, "datasource": source,
        "gridPos": {"x": 8 * (number % 3), "y": 8 * (number // 3), "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [{"refId": chr(65 + i), "datasource": source, "expr": e, "legendFormat": legend} for i, (e, legend) in enumerate(lines)],
    }  # fmt: skip


def dashboard(name, title, panels):
    variables = [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
    if any("$worker" in expression for _, _, lines in panels for expression, _ in lines):
        query = "label_values(berth_gateway_worker_up, worker)"
        variables.append({
            "name": "worker", "type": "query", "label": "Worker", "datasource": {"type": "prometheus", "uid": "${source}"}, "query": query,
            "definition": query, "includeAll": True, "allValue": ".*", "multi": True, "refresh": 2, "current": {"text": "All", "value": "$__all"},
        })  # fmt: skip
    return {
        "uid": "berth-" + name, "title": title, "tags": ["berth"], "schemaVersion": 39, "refresh": "10s", "editable": True,
        "time": {"from": "now-1h", "to": "now"}, "templating": {"list": variables},
        "links": [{"type": "dashboards", "tags": ["berth"], "title": "Berth", "asDropdown": True, "includeVars": True, "keepTime": True}],
        "panels": [panel(i, *entry) for i, entry in enumerate(panels)],
    }  # fmt: skip


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for name, (title, panels) in DASHBOARDS.items():
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(dashboard(name, title, panels), file, indent=1, ensure_ascii=False)
            file.write("\n")


main()
