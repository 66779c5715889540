"""Ray: processes for preprocessing and training. The only files that import it; they know no stage and no GAN.

With `RAY_ADDRESS` set work goes to that cluster, which is left running; otherwise Ray is started here, once for a
process, and ends with it. Ray's processes die with the thread that starts them, so that thread waits for the end.
"""
