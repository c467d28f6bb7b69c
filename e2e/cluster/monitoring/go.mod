// The definitions of Prometheus' operator's kinds, which the chart's options use. Nothing is built: only its files are read.
module mooring.dev/e2e/cluster/monitoring

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.92.1
