"""Transport `rpc`: boards that run a server of TVM's RPC."""
