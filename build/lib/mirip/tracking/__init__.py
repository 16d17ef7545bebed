"""Results in MLflow. The only package that imports mlflow."""
