"""What a model is: channel groups, the plan of workloads, narrowing, export to ONNX."""
